"""What a load test may send."""

from __future__ import annotations

import pytest

from perfloop.errors import UsageError
from perfloop.sql.guard import check_load_sql

READS = [
    "SELECT 1",
    "SELECT 'drop', 'delete from x', update_set FROM t WHERE a = 1",
    'SELECT "delete" FROM "drop" WHERE "update" = 1',
    "SELECT $$DROP TABLE x$$ WHERE true",
    "WITH x AS (SELECT 1 AS a) SELECT * FROM x WHERE a = 1",
    "SELECT a FROM t WHERE a = 1 UNION ALL SELECT b FROM u WHERE b = 2",
    "VALUES (1), (2)",
    "EXPLAIN SELECT * FROM t",
    "EXPLAIN ANALYZE SELECT * FROM t",
    "EXPLAIN DELETE FROM t",
    "SHOW work_mem",
    "SELECT now(), count(*), lower(a), jsonb_build_object('a', 1), to_char(now(), 'YYYY') FROM t WHERE b = ANY($1)",
    "SELECT E'it\\'s; drop table x' WHERE a = 1 -- delete",
]
WRITES = [
    "DROP TABLE t",
    "TRUNCATE t",
    "DELETE FROM t",
    "UPDATE t SET a = 1",
    "INSERT INTO t VALUES (1)",
    "MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN DELETE",
    "CREATE INDEX i ON t (a)",
    "CREATE TABLE x AS SELECT 1",
    "ALTER TABLE t ADD c int",
    "SELECT 1; DROP TABLE t",
    "SELECT 1;;; delete from t",
    "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone",
    "SELECT * FROM (WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x) y",
    "SELECT * INTO n FROM t",
    "SELECT * FROM t FOR UPDATE",
    "SELECT * FROM t FOR SHARE SKIP LOCKED",
    "/* SELECT */ DELETE /* x */ FROM t",
    "EXPLAIN ANALYZE DELETE FROM t",
    "EXPLAIN (FORMAT JSON, ANALYZE) UPDATE t SET a = 1",
    "EXPLAIN (ANALYZE true) INSERT INTO t VALUES (1)",
    "explain analyze verbose delete from t",
]
NEVER = [
    "COPY t TO PROGRAM 'rm -rf /'",
    "COPY t FROM STDIN",
    "SET work_mem = '1GB'",
    "DO $$ BEGIN END $$",
    "CALL f()",
    "VACUUM t",
    "LOCK TABLE t",
    "GRANT ALL ON t TO x",
    "BEGIN",
    "COMMIT",
    "PREPARE x AS DELETE FROM t",
    "EXECUTE x",
    "NOTIFY x",
    "LISTEN x",
    "DISCARD ALL",
    "CHECKPOINT",
    "REFRESH MATERIALIZED VIEW x",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = 1",
    'SELECT "pg_terminate_backend"(1)',
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT * FROM dblink('host=x', 'select 1') AS t(a int)",
    "SELECT lo_import('/x')",
    "SELECT lo_export(1, '/x')",
    "SELECT setval('s', 1)",
    "SELECT nextval('s')",
    "SELECT set_config('a', 'b', false)",
    "SELECT pg_sleep(10)",
    "SELECT pg_sleep(a) FROM t WHERE b = 1",
    "SELECT pg_sleep_for('1 hour')",
    "SELECT query_to_xml('drop table t', true, true, '')",
    "SELECT pg_advisory_lock(1)",
    "SELECT 1 WHERE EXISTS (SELECT pg_reload_conf())",
    'SELECT U&"pg\\005fterminate_backend"(1)',
    "EXPLAIN ANALYZE EXECUTE x",
    "EXPLAIN ANALYZE SELECT pg_terminate_backend(1)",
]
MYSQL_NEVER = [
    "SELECT 1 /*! INTO OUTFILE '/x' */",
    "SELECT 1 /*!50000 , SLEEP(100) */",
    "SELECT 1 /*M! , SLEEP(100) */",
    "SELECT * FROM t INTO OUTFILE '/x'",
    "LOAD DATA INFILE 'x' INTO TABLE t",
    "SELECT SLEEP(100)",
    "SELECT BENCHMARK(1000000000, MD5('a'))",
    "SELECT LOAD_FILE('/etc/passwd')",
    "SELECT GET_LOCK('a', 1)",
    "REPLACE INTO t VALUES (1)",
    "HANDLER t OPEN",
    "SET GLOBAL x = 1",
    "KILL 5",
    "SELECT * FROM t LOCK IN SHARE MODE",
    "EXPLAIN ANALYZE DELETE FROM t",
]


@pytest.mark.parametrize("text", READS)
def test_reads_pass(text: str) -> None:
    result = check_load_sql(text, "postgres", table_rows={})
    assert result.statements == (text.split(" --")[0],)
    assert result.warnings == ()


@pytest.mark.parametrize("text", WRITES)
def test_writes_are_refused_unless_opted_in(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_load_sql(text, "postgres")
    assert caught.value.what
    assert caught.value.why
    assert caught.value.fix
    assert check_load_sql(text, "postgres", writes_allowed=True).statements


@pytest.mark.parametrize("text", NEVER)
@pytest.mark.parametrize("writes_allowed", [False, True])
def test_what_is_never_sent(text: str, writes_allowed: bool) -> None:
    with pytest.raises(UsageError) as caught:
        check_load_sql(text, "postgres", writes_allowed=writes_allowed)
    assert caught.value.fix


@pytest.mark.parametrize("text", MYSQL_NEVER)
def test_mysql_refuses(text: str) -> None:
    with pytest.raises(UsageError):
        check_load_sql(text, "mysql")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT `delete` FROM `drop` WHERE a = 'update'",
        "SHOW TABLES",
        "DESCRIBE t",
        "EXPLAIN SELECT 1",
        'SELECT "drop table x" WHERE 1',
        "SELECT '/*! x */' WHERE 1",
    ],
)
def test_mysql_reads(text: str) -> None:
    assert check_load_sql(text, "mysql", table_rows={}).statements == (text,)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("SELEC 1", "line 1, column 7"),
        ("SELECT\n  * FROM t WHERE )", "line 2, column 18"),
        ("SELECT 'open", "line 1, column 8"),
        ("SELECT 1;\nSELECT $$x", "line 2, column 8"),
        ("hello world", "line 1, column 1"),
        ("SELECT (((", "line 1"),
    ],
)
def test_what_is_no_sql_is_placed(text: str, position: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_load_sql(text, "postgres")
    assert position in caught.value.why


@pytest.mark.parametrize("text", ["", "  ;; ", "-- nothing", "\0", "(" * 100_000, "SELECT 1;" * 300, "x" * 300_000])
def test_what_is_empty_or_too_much(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_load_sql(text, "postgres")
    assert caught.value.fix


def test_statements_come_one_by_one() -> None:
    assert check_load_sql("select 1;\n select ';' ; -- end", table_rows={}).statements == ("select 1", "select ';'")


def test_unknown_functions_warn() -> None:
    (warning,) = check_load_sql("SELECT my_own(a) FROM t WHERE b = 1").warnings
    assert "my_own" in warning


def test_a_short_sleep_warns() -> None:
    (warning,) = check_load_sql("SELECT pg_sleep(0.01)").warnings
    assert "sleeps" in warning


def test_reading_a_large_table_whole_warns() -> None:
    rows = {"public.orders": 500_000, "public.small": 10}
    assert "500,000 rows" in check_load_sql("SELECT * FROM orders", table_rows=rows).warnings[0]
    assert "500,000 rows" in check_load_sql("SELECT * FROM public.orders o", table_rows=rows).warnings[0]
    assert check_load_sql("SELECT * FROM small", table_rows=rows).warnings == ()
    assert check_load_sql("SELECT * FROM orders WHERE id = 1", table_rows=rows).warnings == ()
    assert check_load_sql("WITH orders AS (SELECT 1) SELECT * FROM orders", table_rows=rows).warnings == ()
    assert "not looked up" in check_load_sql("SELECT * FROM orders").warnings[0]
