"""One query under the glass: what was asked, what was seen of it, which factors were tried, and the answer."""

from __future__ import annotations

from typing import Any, Literal

from perfloop.model.base import SCHEMA_VERSION, Estimate, Word
from perfloop.model.change import Change
from perfloop.model.finding import Finding
from perfloop.model.verdict import Decision, Verdict


class NodeRun(Word):
    """One node of an executed plan, top down. ``rows_estimated`` and ``rows_actual`` are by loop; ``own_ms`` is its time without its children, all loops."""

    node_type: str
    depth: int = 0
    relation: str = ""  # schema.table
    alias: str = ""
    index: str = ""
    condition: str = ""  # of the index, values hidden
    filter: str = ""  # values hidden
    rows_estimated: float = 0.0
    rows_actual: float = 0.0
    loops: float = 1.0
    removed: float = 0.0  # rows by filter or recheck, all loops
    own_ms: float = 0.0
    heap_fetches: float = 0.0
    pages_hit: int = 0
    pages_read: int = 0
    temp_pages: int = 0
    read_ms: float = 0.0
    subplans_removed: int = 0
    children: int = 0
    sort_key: tuple[str, ...] = ()
    detail: str = ""  # sort method, hash batches


class QueryRun(Word):
    """The executed query: all times in order, and the nodes of the fastest run (``nodes``) and of the first (``pages_read_first``)."""

    times_ms: tuple[float, ...] = ()
    planning_ms: float = 0.0
    nodes: tuple[NodeRun, ...] = ()
    pages_read_first: int = 0
    pages_read_best: int = 0
    waits: dict[str, int] = {}  # samples by wait event while it ran
    samples: int = 0
    lock_wait_ms: float = 0.0
    blockers: tuple[str, ...] = ()  # the lock tree, root first, one line a session
    timed_out: bool = False
    rows: float = 0.0

    @property
    def best_ms(self) -> float:
        """The fastest run; 0 where none ended."""
        return min(self.times_ms, default=0.0)


class FactorTried(Word):
    """Some differences between then and now, swapped together in the planner twin."""

    kind: str
    subjects: tuple[str, ...]
    detail: str = ""
    forward: bool | None = None  # then's planner with this of now plans as now
    backward: bool | None = None  # now's planner with this as it was plans as then
    cost_forward: float | None = None
    cost_backward: float | None = None


_TEXTS = ("text", "varchar", "character varying", "bpchar", "char", "character")


class Condition(Word):
    """One simple condition on one column of a table: what the planner expects of it and what a look at a sample of the table shows, as shares of its rows."""

    table: str
    column: str
    text: str  # value hidden
    operator: str = "="
    expected: float | None = None
    seen: float | None = None
    in_common_values: bool | None = None  # the value is one of the column's most common values
    beyond_histogram: bool | None = None  # the value lies outside what the statistics know
    function: str = ""  # a function around the column
    cast: str = ""  # the type that the column is cast to
    column_type: str = ""
    pattern: str = ""  # prefix or contains, for LIKE
    has_statistics: bool = True

    @property
    def cast_matters(self) -> bool:
        """True where the column is cast to a type that an index on the bare column does not serve; text and varchar are the same to an index."""
        if not self.cast:
            return False
        return self.cast.split("(")[0] not in _TEXTS or bool(self.column_type and self.column_type.split("(")[0] not in _TEXTS)


class TableNow(Word):
    """A table that the query touches, as it is now and (where a snapshot knows it) as it was."""

    name: str
    rows: float = 0.0
    pages: int = 0
    rows_then: float | None = None
    pages_then: int | None = None
    live_rows: int = 0
    dead_rows: int = 0
    modified_since_analyze: int = 0
    last_analyze: str = ""
    last_vacuum: str = ""
    visible_share: float = 0.0
    columns_without_statistics: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()  # definitions of valid ones
    invalid_indexes: tuple[str, ...] = ()  # names
    partitions: int = 0
    partition_names: tuple[str, ...] = ()
    partition_key: tuple[str, ...] = ()
    xmin_holder: str = ""  # what keeps dead rows from being removed


class QueryEvidence(Word):
    """All that is known of one query. Plans hold no values of the query's own."""

    text: str  # literals hidden
    fingerprint: str
    placeholders: int = 0
    server_version: int = 0
    database: str = ""
    plan_now: dict[str, Any] = {}
    plan_then: dict[str, Any] = {}
    cost_now: float | None = None
    cost_then: float | None = None
    time_then_ms: float | None = None
    time_then_source: str = ""
    then_at: str = ""
    then_name: str = ""
    plan_changed: bool | None = None
    twin_exact: bool | None = None
    run: QueryRun | None = None
    trials: tuple[FactorTried, ...] = ()  # those that explain the change, best first
    tried: int = 0
    conditions: tuple[Condition, ...] = ()
    tables: tuple[TableNow, ...] = ()
    calls_per_s: float | None = None  # from pg_stat_statements, as the next three
    calls: int | None = None
    mean_ms: float | None = None
    rows_per_call: float | None = None
    generic_ms: float | None = None  # with a plan that may not look at its values
    generic_plan: dict[str, Any] = {}
    plan_cache_mode: str = ""
    work_mem_kb: int = 0
    work_mem_then_kb: int | None = None
    parent: str = ""  # another statement whose rows come with one call of this each
    parent_ratio: float | None = None
    notes: tuple[str, ...] = ()


class FixTried(Word):
    """A fix and what became of it: tried in the planner twin (costs), or applied and measured (verdict)."""

    change: Change | None = None
    title: str = ""
    statement: str = ""
    cost_before: float | None = None
    cost_after: float | None = None
    decision: Decision | None = None
    verdict: Verdict | None = None
    reason: str = ""


class QueryResult(Word):
    """The answer of ``perfloop query``. ``causes`` are ranked; empty where the query is as good as it gets here, and ``why_none`` says what was looked at."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ok: bool = True
    evidence: QueryEvidence
    causes: tuple[Finding, ...] = ()
    why_none: str = ""
    time_now: Estimate | None = None  # ms
    time_ratio: float | None = None  # now over then
    where: dict[str, float] = {}  # share of the time: locks, io, cpu, spill, rows, planning
    fixes: tuple[FixTried, ...] = ()
    snapshot: str = ""  # the one taken now
    seconds: float = 0.0
