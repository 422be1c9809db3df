"""The catalogue queries that a snapshot is made of; PostgreSQL 13 and later, no privilege beyond SELECT on the tables."""

PROBE_SETTINGS = (
    b"SET LOCAL cpu_operator_cost = 1000",
    b"SET LOCAL enable_seqscan = off",
    b"SET LOCAL enable_bitmapscan = off",
    b"SET LOCAL enable_indexscan = on",
    b"SET LOCAL enable_indexonlyscan = on",
    b"SET LOCAL max_parallel_workers_per_gather = 0",
    b"SET LOCAL statement_timeout = '2s'",
)

RESOLVE = "SELECT to_regclass(n)::oid AS oid FROM unnest(%s::text[]) n"

#: tables and views reached from some relations through views, deepest views having the greatest depth
REACHED = """
WITH RECURSIVE reached(oid, depth) AS (
  SELECT o, 0 FROM unnest(%s::oid[]) o
  UNION
  SELECT d.refobjid, r.depth + 1 FROM reached r
    JOIN pg_rewrite w ON w.ev_class = r.oid
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.oid
  WHERE r.depth < 20 AND EXISTS (SELECT FROM pg_class v WHERE v.oid = r.oid AND v.relkind = 'v'))
SELECT c.oid, c.relkind AS kind, max(r.depth) AS depth, quote_ident(n.nspname) AS schema,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
       CASE WHEN c.relkind = 'v' THEN rtrim(pg_get_viewdef(c.oid), '; ') END AS definition
FROM reached r JOIN pg_class c ON c.oid = r.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'v', 'p', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
GROUP BY c.oid, n.nspname ORDER BY c.oid"""

TABLES = """
SELECT c.oid, c.relkind AS kind, n.nspname AS bare_schema, c.relname AS bare_name, quote_ident(n.nspname) AS schema,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, c.relrowsecurity AS row_security,
       c.relpages, c.reltuples::text, c.relallvisible,
       pg_relation_size(c.oid) / current_setting('block_size')::int AS pages,
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AS inherited,
       (SELECT string_agg(o, ', ') FROM unnest(c.reloptions) o WHERE o ~ '^(fillfactor|parallel_workers)=') AS options
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY(%s) ORDER BY c.oid"""

COLUMNS = """
SELECT a.attrelid AS oid, a.attrelid::regclass::text AS table, a.attname AS column,
       quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
       || CASE WHEN a.attcollation <> t.typcollation AND l.oid IS NOT NULL THEN ' COLLATE ' || quote_ident(ln.nspname) || '.' || quote_ident(l.collname) ELSE '' END
       || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END AS definition,
       has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable, format_type(a.atttypid, NULL) AS type
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_collation l ON l.oid = a.attcollation LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace
WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum"""

#: in the order of creation, which breaks ties between equal costs
INDEXES = """
SELECT c.oid, n.nspname AS bare_schema, c.relname AS bare_name, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
       quote_ident(tn.nspname) || '.' || quote_ident(t.relname) AS table, i.indrelid AS table_oid,
       am.amname AS method, pg_get_indexdef(c.oid) AS definition, i.indisvalid AS valid,
       c.relpages, c.reltuples::text, pg_relation_size(c.oid) / current_setting('block_size')::int AS pages,
       pg_get_expr(i.indpred, i.indrelid) AS predicate,
       (SELECT array_agg(pg_get_indexdef(c.oid, k, false) ORDER BY k) FROM generate_series(1, i.indnkeyatts) k) AS keys,
       (SELECT array_agg(CASE WHEN i.indkey[k - 1] = 0 THEN ia.attname END ORDER BY k) FROM generate_series(1, i.indnkeyatts) k
         JOIN pg_attribute ia ON ia.attrelid = c.oid AND ia.attnum = k) AS key_names,
       (SELECT array_agg(format_type(coalesce(ta.atttypid, ia.atttypid), NULL) ORDER BY k) FROM generate_series(1, i.indnkeyatts) k
         JOIN pg_attribute ia ON ia.attrelid = c.oid AND ia.attnum = k
         LEFT JOIN pg_attribute ta ON ta.attrelid = i.indrelid AND ta.attnum = i.indkey[k - 1] AND ta.attnum > 0) AS key_types
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am am ON am.oid = c.relam
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE i.indrelid = ANY(%s) AND i.indislive ORDER BY c.oid"""

#: keys that the planner reasons with; foreign keys only between tables that are all here, and not checked
CONSTRAINTS = """
WITH here AS (SELECT %s::oid[] AS oids)
SELECT n.contype AS kind, quote_ident(n.conname) AS name, n.conindid AS index_oid, quote_ident(s.nspname) || '.' || quote_ident(t.relname) AS table,
       pg_get_constraintdef(n.oid) || CASE WHEN n.contype = 'f' AND n.convalidated THEN ' NOT VALID' ELSE '' END AS definition
FROM here, pg_constraint n JOIN pg_class t ON t.oid = n.conrelid JOIN pg_namespace s ON s.oid = t.relnamespace
WHERE n.conrelid = ANY(here.oids) AND (n.contype IN ('p', 'u', 'x') OR n.contype = 'f' AND n.confrelid = ANY(here.oids))
ORDER BY n.contype = 'f', n.oid"""

TYPES = """
WITH RECURSIVE used(oid) AS (
  SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped
  UNION
  SELECT x FROM used u JOIN pg_type t ON t.oid = u.oid, unnest(ARRAY[t.typbasetype, CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END]) x WHERE x <> 0)
SELECT t.oid, format_type(t.oid, NULL) AS name, CASE
  WHEN t.typtype = 'e' THEN format('CREATE TYPE %%I.%%I AS ENUM (%%s)', n.nspname, t.typname,
       (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid))
  WHEN t.typtype = 'd' THEN format('CREATE DOMAIN %%I.%%I AS %%s', n.nspname, t.typname, format_type(t.typbasetype, t.typtypmod)) END AS statement
FROM used u JOIN pg_type t ON t.oid = u.oid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid >= 16384 AND NOT (t.typcategory = 'A' AND t.typelem <> 0)"""

EXTENDED = "SELECT stxname AS name FROM pg_statistic_ext WHERE stxrelid = ANY(%s) ORDER BY 1"

STATS_RANGES = ", s.range_length_histogram::text, s.range_empty_frac::text, s.range_bounds_histogram::text"
STATS = """
SELECT s.schemaname, s.tablename AS relname, s.attname, s.inherited::text, s.null_frac::text, s.avg_width::text, s.n_distinct::text,
       s.most_common_vals::text, s.most_common_freqs::text, s.histogram_bounds::text, s.correlation::text,
       s.most_common_elems::text, s.most_common_elem_freqs::text, s.elem_count_histogram::text{ranges},
       quote_ident(s.schemaname) || '.' || quote_ident(s.tablename) AS table, quote_ident(s.attname) AS quoted_column, format_type(a.atttypid, a.atttypmod) AS type
FROM pg_stats s JOIN pg_namespace n ON n.nspname = s.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = s.attname
WHERE c.oid = ANY(%s)"""

SETTINGS = """
SELECT name, setting FROM pg_settings
WHERE (category LIKE 'Query Tuning%' AND name NOT LIKE 'jit%')
   OR name IN ('work_mem', 'hash_mem_multiplier', 'max_parallel_workers_per_gather', 'parallel_leader_participation', 'search_path',
               'DateStyle', 'IntervalStyle', 'TimeZone', 'bytea_output', 'xmlbinary', 'default_text_search_config', 'standard_conforming_strings')
ORDER BY name"""

DATABASE = """
SELECT pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS collate, d.datctype AS ctype,
       coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') AS provider, coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', '') AS locale
FROM pg_database d WHERE d.datname = current_database()"""
