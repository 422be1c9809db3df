"""What a read-only role may not read but can ask the planner for: heights of b-trees, statistics of expressions, real ends of indexes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from perfloop.twin import catalog

if TYPE_CHECKING:
    import psycopg

Row = dict[str, Any]
#: columns whose real ends are read, and the highest cost of that by the target's own estimate: an index's two ends
ENDS_MAX = 40
ENDS_COST_MAX = 50.0
_LEAF_ONLY_PAGES = 2  # the metapage and one leaf


def heights(connection: psycopg.Connection[Any], indexes: Sequence[Row]) -> dict[str, int]:
    """Heights of b-trees by index name, read off the start-up cost of a scan on the full key (costs are in units of 1000 per operator).

    btcostestimate(): start-up = ⌈log2(tuples)⌉ + 50 · (height + 1) operators, and the logarithm is below 50. The key is compared with a
    sub-select that yields nothing, so that every version plans it without a value. An index of one leaf has no height and is not asked for.
    """
    import psycopg

    asked = [index for index in indexes if index["method"] == "btree" and index["valid"] and index["pages"] > _LEAF_ONLY_PAGES]
    with connection.transaction(force_rollback=True):
        for setting in catalog.PROBE_SETTINGS:
            connection.execute(setting)
        try:
            with connection.transaction(), connection.pipeline():
                cursors = [connection.execute(_probe(index)) for index in asked]
                plans = [_plan_of(cursor.fetchone()) for cursor in cursors]
        except psycopg.Error:
            plans = [_ask(connection, _probe(index).decode().removeprefix("EXPLAIN (FORMAT JSON) ")) for index in asked]
    found = {index["name"]: 0 for index in indexes if index["method"] == "btree" and index["pages"] <= _LEAF_ONLY_PAGES}
    for index, plan in zip(asked, plans, strict=True):
        if plan and plan.get("Index Name") == index["bare_name"] and plan["Node Type"].startswith("Index"):
            found[index["name"]] = max(0, int(plan["Startup Cost"] / 1000 / 50) - 1)
    return found


def _probe(index: Row) -> bytes:
    equal = (f"({key}) = (SELECT NULL::{kind})" for key, kind in zip(index["keys"], index["key_types"], strict=True))
    where = " AND ".join((*equal, *([f"({index['predicate']})"] if index["predicate"] else [])))
    return f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {index['table']} WHERE {where}".encode()  # noqa: S608 - names are quoted by the server


def _plan_of(row: Any) -> Row | None:
    plan: Row | None = row[0][0]["Plan"] if row else None
    return plan


def expressions(connection: psycopg.Connection[Any], indexes: Sequence[Row], known: Sequence[Row]) -> list[Row]:
    """Statistics of index expressions that the role may not read: width and distinct values, as the target's planner estimates them."""
    readable = {(row["schemaname"], row["relname"], row["attname"]) for row in known}
    rows: list[Row] = []
    for index in indexes:
        for key, column, kind in zip(index["keys"], index["key_names"], index["key_types"], strict=True):
            if column is None or (index["bare_schema"], index["bare_name"], column) in readable:
                continue
            every = _ask(connection, f"SELECT ({key}) FROM {index['table']}")  # noqa: S608 - names are quoted by the server
            equal = _ask(connection, f"SELECT 1 FROM {index['table']} WHERE ({key}) = (SELECT NULL::{kind})")  # noqa: S608 - names are quoted by the server
            if not every or not equal or not every["Plan Rows"]:
                continue
            share = max(1, equal["Plan Rows"]) / every["Plan Rows"]
            distinct = -1.0 if equal["Plan Rows"] <= 1 else 1 / share
            rows.append(
                {
                    "schemaname": index["bare_schema"],
                    "relname": index["bare_name"],
                    "attname": column,
                    "inherited": "false",
                    "null_frac": "0",
                    "avg_width": str(every["Plan Width"]),
                    "n_distinct": str(distinct),
                }
            )
    return rows


def real_ends(connection: psycopg.Connection[Any], indexes: Sequence[Row], stats: Sequence[Row]) -> list[Row]:
    """The statistics, with the histograms of indexed columns ending at the real minimum and maximum.

    The planner itself looks there before it trusts a histogram's end (get_actual_variable_range), and the twin's indexes are empty.
    """
    import psycopg

    leading = {(index["table"], index["keys"][0]) for index in indexes if index["method"] == "btree" and index["valid"] and not index["predicate"]}
    changed: list[Row] = []
    read = 0
    for row in stats:
        table, column = row.get("table"), row.get("quoted_column")
        if row["histogram_bounds"] is None or (table, column) not in leading or read >= ENDS_MAX:
            changed.append(row)
            continue
        read += 1
        cheap = _ask(connection, f"SELECT min({column}), max({column}) FROM {table}")  # noqa: S608 - names are quoted by the server
        bounds = None
        if cheap and cheap["Total Cost"] <= ENDS_COST_MAX:
            query = f"""SELECT (ARRAY[e.low] || h.b[2:array_length(h.b, 1) - 1] || ARRAY[e.high])::text
                FROM (SELECT %s::text::{row["type"]}[] AS b) h, (SELECT min({column}) AS low, max({column}) AS high FROM {table}) e
                WHERE e.low IS NOT NULL AND array_length(h.b, 1) > 2"""  # noqa: S608 - names are quoted by the server
            try:
                with connection.transaction():
                    connection.execute(b"SET LOCAL statement_timeout = '500ms'")
                    answer = connection.execute(query.replace("%", "%%").replace("%%s", "%s", 1).encode(), (row["histogram_bounds"],)).fetchone()
                    bounds = answer[0] if answer else None
            except psycopg.Error:
                bounds = None
        changed.append({**row, "histogram_bounds": bounds} if bounds else row)
    return changed


def _ask(connection: psycopg.Connection[Any], query: str) -> Row | None:
    """The plan of a query of ours; None where it has none (a type without equality, say) or planning took too long."""
    import psycopg

    try:
        with connection.transaction():
            answer = connection.execute(f"EXPLAIN (FORMAT JSON) {query}".encode()).fetchone()
    except (psycopg.errors.ProgrammingError, psycopg.errors.DataError, psycopg.errors.QueryCanceled):
        return None
    return _plan_of(answer)
