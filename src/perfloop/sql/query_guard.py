"""May this one query be run to look at it? One reading statement, no function that writes, reaches out or is volatile; the database's own walls stand behind."""

from __future__ import annotations

from sqlglot import exp

from perfloop.errors import UsageError
from perfloop.sql.connect import Connection, query
from perfloop.sql.guard import check_load_sql
from perfloop.sql.parse import statements

#: volatile by their nature, and harmless
_HARMLESS = ("random", "random_normal", "clock_timestamp", "timeofday", "gen_random_uuid", "uuidv4", "uuidv7", "setseed", "pg_sleep")
_READS = (exp.Select, exp.SetOperation, exp.Values, exp.Subquery)

_VOLATILE = """
select n.nspname || '.' || p.proname from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where p.proname = any(%s::text[]) and p.provolatile = 'v' and not (n.nspname = 'pg_catalog' and p.proname = any(%s::text[]))
order by 1 limit 5
"""


def one_query(text: str) -> str:
    """The text of the one SELECT (or VALUES, or WITH … SELECT) that may be looked at; UsageError names what is wrong. Nothing is sent."""
    found = check_load_sql(text)
    if len(found.statements) != 1:
        raise UsageError("the query is more than one statement", f"{len(found.statements)} statements", "ask about one statement at a time")
    tree = statements(text, "postgres")[0].tree
    if not isinstance(tree, _READS):
        raise UsageError("this is no query that perfloop runs to look at it", f"it is {type(tree).__name__.upper()}", "give the SELECT itself, without EXPLAIN")
    return found.statements[0]


def refuse_volatile(connection: Connection, text: str) -> None:
    """UsageError where the query calls a function that the catalogue says is volatile: it may write, whatever its name."""
    names = set()
    for node in statements(text, "postgres")[0].tree.find_all(exp.Func):
        names.add((node.name if isinstance(node, (exp.Anonymous, exp.AnonymousAggFunc)) else node.sql_name()).lower())
    rows = query(connection, _VOLATILE, (sorted(names), list(_HARMLESS)))
    if rows:
        raise UsageError(
            f"the query is not run: {rows[0][0]} is a volatile function",
            "a volatile function may change data, send messages or take locks, and is called again for every row",
            "mark it STABLE if it only reads (ALTER FUNCTION … STABLE), or ask about the query without it",
        )
