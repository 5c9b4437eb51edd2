-- The role that can read and nothing else. Used by rsloc_db/db/readers.py.

-- name: reader_lock
-- Let one process at a time make the role: roles belong to the whole server, and two at once would fail.
SELECT pg_advisory_xact_lock(hashtext('rsloc_db.reader'));

-- name: reader_create
-- Make the role unless it is there; nobody can log in as it.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rsloc_reader') THEN
        CREATE ROLE rsloc_reader NOLOGIN;
    END IF;
END
$$;

-- name: reader_grant
-- Let it read what is in the schema now.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO rsloc_reader;

-- name: reader_join
-- Let this user take the role on: a user who is no superuser needs to be a member.
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT rsloc_reader TO %I', current_user);
    END IF;
END
$$;
