-- The two roles perfloop works with. Run once, in the service's database, as a superuser or its owner:
--   psql -d DATABASE -v reader=perfloop_ro -v owner=OWNER_OF_THE_TABLES -f roles.sql
-- then give the reader a password:  \password perfloop_ro
--
-- 1. The reader looks: no superuser, no pg_* grants, every transaction read-only, statements limited in time.
CREATE ROLE :"reader" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 10;
ALTER ROLE :"reader" SET default_transaction_read_only = on;
ALTER ROLE :"reader" SET statement_timeout = '10s';
ALTER ROLE :"reader" SET idle_in_transaction_session_timeout = '60s';
GRANT USAGE ON SCHEMA public TO :"reader";
GRANT SELECT ON ALL TABLES IN SCHEMA public TO :"reader";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT ON TABLES TO :"reader";
-- 2. What others' sessions are doing it sees through one function only (activity.sql), not through pg_monitor:
-- GRANT USAGE ON SCHEMA perfloop TO :"reader"; GRANT EXECUTE ON FUNCTION perfloop.activity() TO :"reader";
-- 3. Changes (CREATE INDEX CONCURRENTLY) are made by the role that owns the tables; no role is made for that here.
