from __future__ import annotations

import pytest

from perfloop.change.ddl_lint import lint

FIRES = (
    ("CREATE INDEX a ON t (b)", {"index-blocks-writes", "no-lock-timeout"}),
    ("create unique index if not exists a on t (b)", {"index-blocks-writes", "trusts-if-not-exists", "no-lock-timeout"}),
    ("CREATE INDEX CONCURRENTLY IF NOT EXISTS a ON t (b)", {"trusts-if-not-exists"}),
    ("DROP INDEX a", {"drop-index-blocks", "no-lock-timeout"}),
    ("ALTER TABLE post ALTER COLUMN url TYPE varchar(2000)", {"column-type-rewrite", "no-lock-timeout"}),
    ("SET lock_timeout = '2s'; ALTER TABLE t ALTER c SET NOT NULL", {"not-null-scan"}),
    ("ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id)", {"constraint-scan", "no-lock-timeout"}),
    ("ALTER TABLE t ADD PRIMARY KEY (id)", {"unique-builds-index", "no-lock-timeout"}),
    ("ALTER TABLE t ADD COLUMN u uuid DEFAULT gen_random_uuid()", {"volatile-default", "no-lock-timeout"}),
    ("VACUUM FULL t", {"rewrites-table", "no-lock-timeout"}),
    ("SET lock_timeout TO '1s'; ALTER TABLE t RENAME COLUMN a TO b", {"renames"}),
    ("SET lock_timeout TO '1s'; ALTER TABLE t DROP COLUMN a", {"drops-column"}),
    ("BEGIN; CREATE INDEX CONCURRENTLY a ON t (b); COMMIT", {"concurrently-in-transaction"}),
    ("SET lock_timeout = 0; TRUNCATE t", {"exclusive-lock", "no-lock-timeout"}),
)


@pytest.mark.parametrize(("text", "rules"), FIRES)
def test_what_is_dangerous_is_said(text: str, rules: set[str]) -> None:
    assert {one.rule for one in lint(text)} == rules


@pytest.mark.parametrize(
    "text",
    [
        "CREATE INDEX CONCURRENTLY a ON t (b)",
        "DROP INDEX CONCURRENTLY a",
        "REINDEX INDEX CONCURRENTLY a",
        "ANALYZE t (a)",
        "CREATE STATISTICS s (mcv) ON a, b FROM t",
        "ALTER TABLE t ALTER COLUMN a SET STATISTICS 500",
        "ALTER TABLE t SET (autovacuum_vacuum_scale_factor = 0.02)",
        "ALTER TABLE t VALIDATE CONSTRAINT f",
        "SET lock_timeout = '2s'; ALTER TABLE t ADD COLUMN a int DEFAULT 0",
        "SET lock_timeout = '2s'; ALTER TABLE t ADD CONSTRAINT f CHECK (a > 0) NOT VALID",
        "SET lock_timeout = '2s'; ALTER TABLE t ADD CONSTRAINT u UNIQUE USING INDEX a",
        "SET lock_timeout = '2s'; ALTER TABLE t DROP CONSTRAINT f",
        "SELECT 'create index a on t (b)' -- drop table t",
        "ALTER DATABASE shop SET work_mem = '64MB'",
    ],
)
def test_what_is_safe_is_left_alone(text: str) -> None:
    assert lint(text) == ()
