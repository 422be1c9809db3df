"""Asks what an index would change: the plan and cost of one query before and after, without touching the target."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfloop.errors import CannotMeasure
from perfloop.twin import text
from perfloop.twin.build import Twin, explain
from perfloop.twin.snapshot import take

if TYPE_CHECKING:
    import psycopg

#: the twin's cost may differ from the target's by so much and still count as the same
COST_TOLERANCE = 1e-3
READ_S = 10.0


@dataclass(frozen=True)
class WhatIf:
    """Costs in the planner's units. ``exact``: without the change the twin plans the query as the target does, same nodes and cost within 0.1 %.

    ``index_bytes`` is the expected size of what the change creates.
    """

    cost_before: float
    cost_after: float
    plan_before: dict[str, Any] = field(repr=False)
    plan_after: dict[str, Any] = field(repr=False)
    exact: bool
    notes: tuple[str, ...] = ()
    target_cost: float = 0.0
    index_bytes: int = 0
    seconds: float = 0.0

    @property
    def ratio(self) -> float:
        """Cost after over cost before; 1 where the plan would stay as it is."""
        return self.cost_after / self.cost_before if self.cost_before else 1.0


def what_if(target: psycopg.Connection[Any] | str, query: str, ddl: Sequence[str]) -> WhatIf:
    """Plan ``query`` before and after ``ddl`` (CREATE INDEX, DROP INDEX) in a private planner twin of ``target``: a read-only connection, or a DSN.

    The target answers catalogue queries, EXPLAIN, and the minimum and maximum of indexed columns only. ``?`` in the query become ``$1`` …, planned without values. ``UsageError`` for a query
    of several statements or other DDL; ``CannotMeasure`` where the query does not plan, or its tables cannot be imitated.
    """
    import psycopg

    began = time.monotonic()
    query = text.single_statement(query)
    with _reading(target) as connection:
        try:
            with connection.transaction(force_rollback=True):
                target_plan = explain(connection, query, verbose=True)
                snapshot = take(connection, names_of(query, target_plan))
        except psycopg.Error as error:
            raise CannotMeasure(
                "the target does not plan this query", why=str(error).strip().split("\n", 1)[0], fix="try EXPLAIN with the same read-only role"
            ) from error
    with Twin(snapshot, ddl) as twin:
        try:
            before, after = twin.plan(query, changed=False), twin.plan(query, changed=True)
        except psycopg.Error as error:
            raise CannotMeasure(
                "the planner twin cannot plan this query", why=str(error).strip().split("\n", 1)[0], fix="try the change on a copy of the database"
            ) from error
        notes = list(dict.fromkeys(twin.notes))
        pages = sum(index.pages for index in twin.hidden if index.added)
    exact = shape(before) == shape(target_plan) and _close(before["Total Cost"], target_plan["Total Cost"])
    if not exact:
        notes.append(f"the twin plans it at cost {before['Total Cost']:.2f}, the target at {target_plan['Total Cost']:.2f}")
    return WhatIf(
        cost_before=before["Total Cost"],
        cost_after=after["Total Cost"],
        plan_before=before,
        plan_after=after,
        exact=exact,
        notes=tuple(notes),
        target_cost=target_plan["Total Cost"],
        index_bytes=pages * 8192,
        seconds=time.monotonic() - began,
    )


@contextmanager
def _reading(target: psycopg.Connection[Any] | str) -> Iterator[psycopg.Connection[Any]]:
    """The connection itself, or a new read-only one with time limits; an error never repeats the DSN."""
    import psycopg

    if not isinstance(target, str):
        yield target
        return
    options = f"-c default_transaction_read_only=on -c statement_timeout={int(READ_S * 1000)} -c lock_timeout=1000"
    try:
        connection = psycopg.connect(target, options=options, connect_timeout=int(READ_S), application_name="perfloop")
    except psycopg.Error as error:
        raise CannotMeasure(
            "the target's database does not answer",
            why=str(error).strip().split("\n", 1)[0].split("password", 1)[0],
            fix="check its address and the read-only role",
        ) from None
    with connection:
        yield connection


def names_of(query: str, plan: dict[str, Any] | None) -> tuple[str, ...]:
    """Relations named in the text (also those that the planner removed), and those of the plan."""
    names = dict.fromkeys(text.table_names(query))
    for node in nodes(plan) if plan else ():
        if "Relation Name" in node and "Schema" in node:
            names['"{}"."{}"'.format(*(node[key].replace('"', '""') for key in ("Schema", "Relation Name")))] = None
    return tuple(names)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All nodes of a plan, top down."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def shape(plan: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two plans the same: their nodes, relations and indexes, without costs."""
    kept = tuple(plan.get(key) for key in ("Node Type", "Strategy", "Join Type", "Relation Name", "Index Name", "Scan Direction"))
    return (*kept, tuple(shape(child) for child in plan.get("Plans", ())))


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= max(0.011, COST_TOLERANCE * max(one, other))  # costs are printed with two decimals
