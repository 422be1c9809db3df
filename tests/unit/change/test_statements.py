from __future__ import annotations

import pytest

from perfloop.change.statements import proposals_of
from perfloop.errors import UsageError


@pytest.mark.parametrize(
    ("text", "kind", "params"),
    [
        ("CREATE INDEX ON orders (a, b)", "postgres-index-definition", {"definition": "CREATE INDEX ON orders (a, b)"}),
        ("alter system set work_mem to '64MB';", "postgres-setting", {"name": "work_mem", "value": "64MB"}),
        ('ALTER DATABASE "Shop" SET jit = off', "postgres-database-setting", {"database": "Shop", "name": "jit", "value": "off"}),
        ("ALTER TABLE public.t SET (fillfactor = 80)", "postgres-table-options", {"schema": "public", "table": "t", "options": {"fillfactor": "80"}}),
        ("CREATE STATISTICS s (ndistinct) ON a, b FROM T", "postgres-statistics", {"name": "s", "columns": ["a", "b"], "table": "t", "extended": True}),
        ("ANALYZE t (a)", "postgres-analyze", {"table": "t", "columns": ["a"]}),
        ("VACUUM ANALYZE t", "postgres-vacuum", {"table": "t"}),
        ("SET GLOBAL table_open_cache = 3000", "mysql-setting", {"name": "table_open_cache", "value": "3000"}),
    ],
)
def test_a_statement_becomes_the_change_that_can_take_it_back(text: str, kind: str, params: dict[str, object]) -> None:
    (proposal,) = proposals_of(text)
    assert (proposal.kind, proposal.params) == (kind, params)


def test_each_statement_is_a_candidate_and_a_semicolon_in_a_literal_is_none() -> None:
    assert len(proposals_of("ALTER SYSTEM SET jit = off; ANALYZE t;")) == 2
    (only,) = proposals_of("ALTER SYSTEM SET log_line_prefix = 'a;b'")
    assert only.params["value"] == "a;b"


@pytest.mark.parametrize(
    "text", ["DROP INDEX i", "DELETE FROM t", "ALTER TABLE t DROP COLUMN a", "SELECT 1", "ANALYZE t; UPDATE t SET a = 1", "ALTER SYSTEM SET 'x"]
)
def test_what_has_no_undo_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        proposals_of(text)
