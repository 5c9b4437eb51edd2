#!/bin/sh
# Make the cluster at the first start, then run the server. Everybody is asked for a password.
#   POSTGRES_PASSWORD  password of the superuser (required at the first start)
#   POSTGRES_USER      its name (default: rsloc)
#   POSTGRES_DB        name of the database (default: the user's)
set -eu

home=${RSLOC_VOLUME:-/var/lib/rsloc-db}
user=${POSTGRES_USER:-rsloc}
database=${POSTGRES_DB:-$user}
case $user$database in
  *[!A-Za-z0-9_]*) echo "POSTGRES_USER and POSTGRES_DB: expected letters, digits and _, found $user, $database" >&2; exit 2 ;;
esac

if [ ! -e "$home/data/PG_VERSION" ]; then
  : "${POSTGRES_PASSWORD:?set it to the password that the new server is to have}"
  # Made beside its place and renamed when whole: a first start that is killed leaves nothing half done.
  rm -rf "$home/data.new"
  printf '%s\n' "$POSTGRES_PASSWORD" | initdb --pgdata="$home/data.new" --username="$user" --pwfile=/dev/stdin \
    --auth=scram-sha-256 --encoding=UTF8 --no-locale --no-instructions
  echo 'host all all all scram-sha-256' >> "$home/data.new/pg_hba.conf"
  cat >> "$home/data.new/postgresql.conf" <<'CONF'
listen_addresses = '*'
# pgvector before 0.8.2 can overflow a buffer in a parallel HNSW build (CVE-2026-3172)
max_parallel_maintenance_workers = 0
maintenance_work_mem = 1GB
shared_buffers = 512MB
work_mem = 64MB
max_wal_size = 4GB
random_page_cost = 1.1
jit = off
timezone = 'UTC'
CONF
  [ "$database" = postgres ] ||
    printf 'create database "%s"' "$database" | postgres --single -D "$home/data.new" -j postgres > /dev/null
  mv "$home/data.new" "$home/data"
fi
unset POSTGRES_PASSWORD
exec postgres -D "$home/data" "$@"
