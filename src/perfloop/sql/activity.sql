-- What perfloop may see of other sessions, and nothing more.
-- Run once per database as a superuser, after: CREATE ROLE perfloop_ro LOGIN PASSWORD '…' NOSUPERUSER;
-- A role without pg_* grants sees only its own rows in pg_stat_activity; this function shows those of the current database to perfloop_ro alone.
-- Undo: DROP SCHEMA perfloop CASCADE;
CREATE SCHEMA IF NOT EXISTS perfloop;
REVOKE ALL ON SCHEMA perfloop FROM PUBLIC;

CREATE OR REPLACE FUNCTION perfloop.activity()
RETURNS TABLE (
  pid integer,
  datname name,
  usename name,
  application_name text,
  client_addr inet,
  client_port integer,
  backend_start timestamptz,
  xact_start timestamptz,
  query_start timestamptz,
  state_change timestamptz,
  wait_event_type text,
  wait_event text,
  state text,
  query_id bigint,
  query text,
  backend_type text,
  blocked_by integer[]
)
LANGUAGE sql
STABLE
SECURITY DEFINER
-- pg_temp is named, and last: unnamed it would be searched first.
SET search_path = pg_catalog, pg_temp
AS $activity$
  SELECT a.pid, a.datname, a.usename, a.application_name, a.client_addr, a.client_port,
         a.backend_start, a.xact_start, a.query_start, a.state_change,
         a.wait_event_type, a.wait_event, a.state, a.query_id, a.query, a.backend_type,
         CASE WHEN a.wait_event_type = 'Lock' THEN pg_catalog.pg_blocking_pids(a.pid) ELSE '{}'::integer[] END
  FROM pg_catalog.pg_stat_activity AS a
  WHERE a.datname = pg_catalog.current_database()
$activity$;

REVOKE ALL ON FUNCTION perfloop.activity() FROM PUBLIC;
GRANT USAGE ON SCHEMA perfloop TO perfloop_ro;
GRANT EXECUTE ON FUNCTION perfloop.activity() TO perfloop_ro;
