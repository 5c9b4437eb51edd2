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
-- Let it read the tables and views of the schema that this user owns; those of PostGIS anybody may read.
DO $$
DECLARE
    owned regclass;
BEGIN
    FOR owned IN
        SELECT oid FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
            AND pg_has_role(relowner, 'USAGE')
    LOOP
        EXECUTE format('GRANT SELECT ON %s TO rsloc_reader', owned);
    END LOOP;
END
$$;

-- name: reader_join
-- Let this user take the role on: a user who is no superuser needs to be a member.
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT rsloc_reader TO %I', current_user);
    END IF;
END
$$;
