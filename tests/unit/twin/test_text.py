"""What is read from a query's text without running it."""

from __future__ import annotations

import pytest

from perfloop.errors import UsageError
from perfloop.twin.text import created_index, dropped_index, has_placeholders, single_statement, table_names


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("SELECT 1;", "SELECT 1"),
        ("SELECT 1 ; -- done; really\n ;", "SELECT 1"),
        ("SELECT * FROM t WHERE a = ? AND b = '?' AND c IN (?)", "SELECT * FROM t WHERE a = $1 AND b = '?' AND c IN ($2)"),
        ("SELECT a ? 'key' FROM t WHERE b = $1", "SELECT a ? 'key' FROM t WHERE b = $1"),
        ("SELECT $$ ; ? $$, $x$ ; $x$, E'\\';?', \"a;?\" /* ; */", "SELECT $$ ; ? $$, $x$ ; $x$, E'\\';?', \"a;?\" /* ; */"),
    ],
)
def test_one_statement_is_taken_and_its_placeholders_numbered(given: str, expected: str) -> None:
    assert single_statement(given) == expected


@pytest.mark.parametrize("text", ["SELECT 1; DROP TABLE t", "SELECT ';'; SELECT 2", "", "  ", "x" * 300_000])
def test_more_than_one_statement_or_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        single_statement(text)


def test_placeholders_inside_quotes_do_not_count() -> None:
    assert has_placeholders("SELECT $1")
    assert not has_placeholders("SELECT '$1', $$ $2 $$ -- $3")


def test_tables_are_named_without_common_table_expressions() -> None:
    text = 'WITH recent AS (SELECT * FROM shop.orders) SELECT * FROM recent r JOIN "Odd" o ON o.id = r.id WHERE EXISTS (SELECT FROM users)'
    assert set(table_names(text)) == {"shop.orders", '"Odd"', "users"}
    assert table_names("this is no SQL (") == ()


def test_index_statements_are_told_from_others() -> None:
    assert created_index("create unique index concurrently if not exists i on t (a)") == "CREATE unique INDEX if not exists i on t (a)"
    assert dropped_index("DROP INDEX CONCURRENTLY shop.i") == "shop.i"
    for other in ("DROP TABLE t", "CREATE TABLE t (a int)", "ALTER INDEX i RENAME TO j", "COPY t TO PROGRAM 'x'"):
        assert created_index(other) is None
        assert dropped_index(other) is None
