"""Plan bisect: swaps one factor at a time between the planner of then and of now until the plan flips, both ways. That factor is the cause.

Forward: the twin of then with only this factor of now; backward: the twin of now with only this factor as it was. A factor that flips the plan
both ways is sufficient and necessary. Groups are tried before their members, so that a database of many columns takes few plans.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import sqrt
from types import TracebackType
from typing import Any

from perfloop.errors import CannotMeasure, PerfloopError
from perfloop.twin.build import Twin, start
from perfloop.twin.cluster import Cluster, Within
from perfloop.twin.factors import Factor, differences, mixed
from perfloop.twin.snapshot import Snapshot, structure
from perfloop.twin.whatif import nodes, shape

HYBRIDS_MAX = 120
TWINS_MAX = 4  # open at once, with four connections each
COST_RATIO_MIN = 1.2  # where both plans have the same shape, the cost must have moved by so much to look for a cause
#: the order of suspicion, which breaks ties
KINDS = ("query", "index", "type", "setting", "statistics", "view", "visibility", "size")


@dataclass(frozen=True)
class Trial:
    """Some factors swapped together. ``forward``: then's planner with them plans as now; ``backward``: now's planner without them plans as then; None where it could not be tried."""

    factors: tuple[Factor, ...]
    forward: bool | None
    backward: bool | None
    cost_forward: float | None = None
    cost_backward: float | None = None

    @property
    def both(self) -> bool:
        """Sufficient and necessary."""
        return bool(self.forward and self.backward)


@dataclass(frozen=True)
class Bisection:
    """What was found. ``cause`` is empty where the plan did not change or no single factor, nor a small set of them, explains it."""

    plan_then: dict[str, Any] = field(repr=False)
    plan_now: dict[str, Any] = field(repr=False)
    changed: bool = False  # another shape
    factors: tuple[Factor, ...] = ()
    cause: tuple[Trial, ...] = ()
    tried: tuple[Trial, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


class Lab:
    """Context manager: one private server in which any number of snapshots can plan a query; those of one structure take turns in one database."""

    def __init__(self, locale: tuple[str, ...], major: int) -> None:
        self._locale, self._major = locale, major
        self._cluster: Cluster | None = None
        self.notes: list[str] = []
        self.planned = self.built = 0
        self._twins: dict[str, Twin] = {}  # by structure, the last used last

    def __enter__(self) -> Lab:
        """Start the server; ``CannotMeasure`` where there is none here."""
        self._cluster = start(self._locale, self._major, self.notes)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for twin in self._twins.values():
            twin.__exit__(None, None, None)
        if self._cluster is not None:
            self._cluster.close()

    def plan(self, snapshot: Snapshot, query: str) -> dict[str, Any]:
        """The plan of ``query`` by the planner of ``snapshot``; ``CannotMeasure`` where it has none."""
        import psycopg

        if self.planned >= HYBRIDS_MAX:
            raise CannotMeasure("the plan bisect came to its limit", why=f"{HYBRIDS_MAX} combinations were planned")
        self.planned += 1
        key = structure(snapshot)
        twin = self._twins.pop(key, None)
        try:
            twin = self._turned(twin, snapshot) if twin else self._build(snapshot)
            self._twins[key] = twin
            return twin.plan(query, changed=False)
        except psycopg.Error as error:
            raise CannotMeasure("the planner twin cannot plan this query", why=str(error).strip().split("\n", 1)[0]) from error

    def _turned(self, twin: Twin, snapshot: Snapshot) -> Twin:
        try:
            twin.become(snapshot)
        except BaseException:
            twin.__exit__(None, None, None)
            raise
        return twin

    def _build(self, snapshot: Snapshot) -> Twin:
        assert self._cluster is not None
        while len(self._twins) >= TWINS_MAX:
            self._twins.pop(next(iter(self._twins))).__exit__(None, None, None)
        self.built += 1
        name = f"hybrid{self.built}"
        with self._cluster.connect() as admin:
            copied = " STRATEGY file_copy" if self._major >= 15 else ""  # the only way there was before
            admin.execute(f"CREATE DATABASE {name} TEMPLATE template0{copied}".encode())
        twin = Twin(snapshot, shared=Within(self._cluster, name)).__enter__()
        if self.built == 1:
            self.notes += twin.notes
        return twin


def bisect(then: Snapshot, now: Snapshot, query: str, query_then: str = "", search: bool = True) -> Bisection:
    """Which factor made the plan of ``query`` what it is now. ``query_then``: the text as it was, where that changed too. Without ``search`` the two plans alone."""
    began = time.monotonic()
    factors = differences(then, now)
    if query_then and query_then != query:
        factors = (Factor("query", "", "text", "the statement itself changed"), *factors)
    with Lab(now.locale, now.version // 10_000) as lab:
        work = _Search(lab, then, now, query, query_then or query, factors)
        found = work.run() if search else ()
        return Bisection(
            plan_then=work.plan_then,
            plan_now=work.plan_now,
            changed=work.shapes_differ,
            factors=factors,
            cause=found,
            tried=tuple(work.tried),
            notes=tuple(dict.fromkeys((*then.notes, *now.notes, *lab.notes))),
            seconds=time.monotonic() - began,
        )


class _Search:
    def __init__(self, lab: Lab, then: Snapshot, now: Snapshot, query: str, query_then: str, factors: tuple[Factor, ...]) -> None:
        self._lab, self._then, self._now, self._query, self._query_then = lab, then, now, query, query_then
        self._all = factors
        self._words = set(re.findall(r"\w+", f"{query} {query_then}"))
        self._cache: dict[tuple[bool, frozenset[Factor]], dict[str, Any] | None] = {}
        self.tried: list[Trial] = []
        self.plan_now = lab.plan(now, query)
        self.plan_then = lab.plan(then, self._query_then)
        self.shapes_differ = shape(self.plan_now) != shape(self.plan_then)

    def run(self) -> tuple[Trial, ...]:
        ratio = self.plan_now["Total Cost"] / max(self.plan_then["Total Cost"], 1e-9)
        if not self._all or (not self.shapes_differ and 1 / COST_RATIO_MIN < ratio < COST_RATIO_MIN):
            return ()
        found = self._descend(self._groups(self._all))
        if not found:
            found = self._together()
        return tuple(sorted(found, key=lambda trial: (not trial.both, len(trial.factors), KINDS.index(trial.factors[0].kind))))

    def _groups(self, factors: Iterable[Factor]) -> list[tuple[Factor, ...]]:
        """By kind, in the order of suspicion; statistics of columns that the text names before those of others."""
        by: dict[tuple[int, bool], list[Factor]] = {}
        for factor in factors:
            named = factor.kind != "statistics" or factor.name.rpartition(".")[2] in self._words
            by.setdefault((KINDS.index(factor.kind), not named), []).append(factor)
        return [tuple(by[key]) for key in sorted(by)]

    def _descend(self, groups: list[tuple[Factor, ...]]) -> list[Trial]:
        """Groups that flip the plan both ways (or, where none does, one way), taken apart until single factors are left."""
        trials = [self._try(group) for group in groups]
        telling = [trial for trial in trials if trial.both] or [trial for trial in trials if trial.backward] or [trial for trial in trials if trial.forward]
        found: list[Trial] = []
        for trial in telling:
            if len(trial.factors) == 1:
                found.append(trial)
                continue
            parts = self._parts(trial.factors)
            smaller = self._descend(parts)
            found += [part for part in smaller if part.both] or ([trial] if trial.both else smaller or [trial])
        return found

    def _parts(self, factors: tuple[Factor, ...]) -> list[tuple[Factor, ...]]:
        """By table first, then singly; a long list of one table in halves."""
        tables = list(dict.fromkeys(factor.table for factor in factors))
        if len(tables) > 1 and len(factors) > 4:
            return [tuple(factor for factor in factors if factor.table == table) for table in tables]
        if len(factors) > 8:
            return [factors[: len(factors) // 2], factors[len(factors) // 2 :]]
        return [(factor,) for factor in factors]

    def _together(self) -> list[Trial]:
        """No group alone does it: the smallest set that does, found by leaving out one after another."""
        kept = list(self._all)
        for group in self._groups(self._all):
            rest = [factor for factor in kept if factor not in group]
            if rest and self._flips(frozenset(rest), forward=True):
                kept = rest
        if len(kept) == len(self._all) and len(self._groups(kept)) > 3:
            return []
        return [self._try(tuple(kept))]

    def _try(self, factors: tuple[Factor, ...]) -> Trial:
        swapped = frozenset(factors)
        forward, backward = self._flips(swapped, forward=True), self._flips(swapped, forward=False)
        plans = [self._plan(swapped, way) for way in (True, False)]
        trial = Trial(factors, forward, backward, *(plan["Total Cost"] if plan else None for plan in plans))
        self.tried.append(trial)
        return trial

    def _flips(self, swapped: frozenset[Factor], forward: bool) -> bool | None:
        plan = self._plan(swapped, forward)
        return None if plan is None else self._like_now(plan) == forward

    def _plan(self, swapped: frozenset[Factor], forward: bool) -> dict[str, Any] | None:
        """Forward: then with these of now; backward: now with these of then."""
        key = (forward, swapped)
        if key not in self._cache:
            base, other = (self._then, self._now) if forward else (self._now, self._then)
            new_text = any(factor.kind == "query" for factor in swapped) == forward
            try:
                self._cache[key] = self._lab.plan(mixed(base, other, swapped), self._query if new_text else self._query_then)
            except PerfloopError:
                self._cache[key] = None
        return self._cache[key]

    def _like_now(self, plan: dict[str, Any]) -> bool:
        if not self.shapes_differ:
            middle = sqrt(max(self.plan_now["Total Cost"], 1e-9) * max(self.plan_then["Total Cost"], 1e-9))
            return bool((plan["Total Cost"] > middle) == (self.plan_now["Total Cost"] > self.plan_then["Total Cost"]))
        if shape(plan) == shape(self.plan_now):
            return True
        if shape(plan) == shape(self.plan_then):
            return False
        return _overlap(plan, self.plan_now) > _overlap(plan, self.plan_then)


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The share of nodes that two plans have in common."""
    a, b = (
        Counter((node["Node Type"], node.get("Relation Name"), node.get("Index Name"), node.get("Join Type")) for node in nodes(plan)) for plan in (one, other)
    )
    return sum((a & b).values()) / max(1, sum((a | b).values()))
