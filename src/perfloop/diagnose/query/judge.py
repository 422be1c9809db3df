"""All causes of one query, in the order in which they explain it."""

from __future__ import annotations

from collections.abc import Callable

from perfloop.diagnose.query import indexes, statistics, storage, surroundings
from perfloop.diagnose.query.view import View
from perfloop.model.finding import Confidence, Finding
from perfloop.model.query import QueryEvidence

Cause = Callable[[View], list[Finding]]
#: the order breaks ties: what makes others visible comes first (a lock before a plan, lost statistics before the estimate that they spoil)
CAUSES: tuple[Cause, ...] = (
    surroundings.lock_wait,
    statistics.missing,
    indexes.lost,
    indexes.implicit_cast,
    surroundings.pruning_lost,
    surroundings.setting_changed,
    statistics.stale,
    statistics.correlated,
    statistics.rare_value,
    indexes.order_limit,
    indexes.function_on_column,
    surroundings.generic_plan,
    storage.visibility,
    statistics.changed,
    storage.growth_and_bloat,
    surroundings.spill,
    surroundings.cold_cache,
    indexes.no_index,
    surroundings.n_plus_one,
)
#: the names of causes, each with the function whose docstring is its page
PAGES: dict[str, Cause] = {
    "lock-wait": surroundings.lock_wait,
    "statistics-missing": statistics.missing,
    "index-dropped": indexes.lost,
    "index-invalid": indexes.lost,
    "index-changed": indexes.lost,
    "index-added": indexes.lost,
    "implicit-cast": indexes.implicit_cast,
    "pruning-lost": surroundings.pruning_lost,
    "setting-changed": surroundings.setting_changed,
    "statistics-stale": statistics.stale,
    "correlated-columns": statistics.correlated,
    "rare-value": statistics.rare_value,
    "order-limit-index": indexes.order_limit,
    "function-on-column": indexes.function_on_column,
    "generic-plan": surroundings.generic_plan,
    "visibility-map": storage.visibility,
    "statistics-changed": statistics.changed,
    "data-growth": storage.growth_and_bloat,
    "table-bloat": storage.growth_and_bloat,
    "spill": surroundings.spill,
    "cold-cache": surroundings.cold_cache,
}
_RANK = {Confidence.CONFIRMED: 0, Confidence.LIKELY: 1, Confidence.POSSIBLE: 2}
#: where a finding of the left is there, those of the right are its consequences
_EXPLAINS: dict[str, tuple[str, ...]] = {
    "lock-wait": ("data-growth", "table-bloat", "spill", "cold-cache", "missing-index", "n-plus-one"),
    "index-dropped": ("missing-index", "function-on-column", "spill", "order-limit-index", "data-growth"),
    "index-invalid": ("missing-index", "function-on-column", "spill", "order-limit-index"),
    "index-changed": ("missing-index", "function-on-column", "spill"),
    "statistics-missing": ("statistics-changed", "statistics-stale", "rare-value", "spill", "order-limit-index"),
    "statistics-stale": ("statistics-changed", "rare-value", "spill", "order-limit-index", "data-growth"),
    "implicit-cast": ("missing-index", "statistics-changed", "data-growth"),
    "pruning-lost": ("missing-index", "data-growth", "implicit-cast"),
    "correlated-columns": ("spill", "statistics-changed", "data-growth"),
    "rare-value": ("spill", "statistics-changed"),
    "order-limit-index": ("statistics-changed", "data-growth", "missing-index"),
    "visibility-map": ("data-growth", "table-bloat"),
    "generic-plan": ("missing-index",),
    "setting-changed": ("spill",),
}


def judge(evidence: QueryEvidence) -> tuple[Finding, ...]:
    """Causes, the most certain and largest first; consequences of another cause are left out."""
    view = View(evidence)
    found = [(number, finding) for number, cause in enumerate(CAUSES) for finding in cause(view)]
    names = {finding.rule for _, finding in found}
    explained = {effect for name in names for effect in _EXPLAINS.get(name, ())}
    kept = [(number, finding) for number, finding in found if finding.rule not in explained]
    kept.sort(key=lambda pair: (_RANK[pair[1].confidence], -round(pair[1].share.value if pair[1].share else 0.0, 1), pair[0]))
    return tuple(finding for _, finding in kept)


def where(evidence: QueryEvidence) -> dict[str, float]:
    """Where the time of the fastest run went, as shares: lock, io, spill, cpu by kind of step, planning."""
    run = evidence.run
    if run is None or not (run.best_ms or run.lock_wait_ms):
        return {}
    whole = run.best_ms + run.planning_ms + (run.lock_wait_ms if run.timed_out else 0.0)
    shares: dict[str, float] = {"planning": run.planning_ms / whole}
    if run.lock_wait_ms:
        shares["waiting for locks"] = min(1.0, run.lock_wait_ms / max(whole, run.lock_wait_ms))
    for node in run.nodes:
        name = "temporary files" if node.temp_pages else f"{node.node_type}{f' on {node.relation}' if node.relation else ''}"
        shares[name] = shares.get(name, 0.0) + node.own_ms / whole
    read = sum(node.read_ms for node in run.nodes)
    if read:
        shares["of that, reading pages"] = read / whole
    return {name: round(share, 4) for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share >= 0.005}
