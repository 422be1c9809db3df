"""Which metric changed first and most, and is no mere consequence of another one.

How it decides
    All columns vote, by ranks, for the row at which most of them changed; nothing need be known of it. Each is then measured by how far it moved, in spreads
    of its own values before, and against its peers of the same kind: a drift that all share is nobody's fault. Resources come before what waits for them
    (latency, errors); a resource that went down, a CPU that rose as its load did, and a CPU that rose beside a memory that did are consequences.

What would disprove it
    These are correlations. An experiment on the component that is named (take the resource away, or add to it) tells; ``perfloop check`` runs those.

Sources
    BARO (FSE 2024); N-Sigma and the comparison of 17 methods in "Root Cause Analysis for Microservice System based on Causal Inference: How Far Are We?" (ASE 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from perfloop.diagnose.metrics.names import RESOURCES, SYMPTOMS, Kind, Named, named
from perfloop.stats.onset import Array, Shifts, common_onset, filled, shifts

#: Tuned on synthetic services with planted faults (bench/rca_parts/synthetic.py), on none of the public data.
THRESHOLDS: dict[str, float] = {
    "size_min": 6.0,  # spreads; less is noise
    "symptom_weight": 0.5,  # latency and errors beside a resource
    "load_weight": 1.0,
    "fall_weight": 0.35,  # a resource that is used less
    "explained_weight": 0.5,
    "peers_weight": 1.0,
    "peer_spread_min": 0.05,  # of log ratios; below this peers count as unmoved
    "backing_weight": 0.1,  # for other metrics of the same component that moved
    "memory_ratio_min": 1.1,
    "memory_part_min": 0.15,  # of what a component of this kind uses, for a memory that accounts for a CPU: a busy loop has some too
    "surge_ratio_min": 1.3,
    "load_slack": 1.3,  # a resource whose log ratio is more than this times its load's rose for another reason
    "load_refuted_weight": 0.4,  # for a load beside a resource that rose for another reason
}


class Ranked(NamedTuple):
    """One column. ``order`` ranks it."""

    column: int
    name: Named
    order: float
    explained_by: int | None


class Ranking(NamedTuple):
    """``at``: the onset, or None where nothing moved by ``size_min``; then ``ranked`` is in the order of what moved most all the same."""

    at: int | None
    moved: Shifts
    ranked: list[Ranked]


def rank(values: Array, names: Sequence[str], thresholds: Mapping[str, float] | None = None, at: int | None = None) -> Ranking:
    """All columns, likeliest cause first. ``at``: the onset where it is known. ``ValueError`` for fewer than 20 rows."""
    limit = {**THRESHOLDS, **(thresholds or {})}
    solid = filled(values)
    onset = common_onset(solid) if at is None else at
    moved = shifts(solid, onset)
    about = [named(name) for name in names]
    explained = _explained(about, moved, limit)
    beyond = _beyond_load(about, moved, explained, limit)
    base = np.log1p(moved.size) + limit["peers_weight"] * np.log1p(_beside_peers(about, moved, limit))
    order = np.array([base[i] * _weight(about[i], moved, i, explained, limit) for i in range(len(names))])
    if beyond:
        order[[i for i, name in enumerate(about) if name.kind is Kind.LOAD]] *= limit["load_refuted_weight"]
    backed = order + limit["backing_weight"] * _backing(about, order)
    ranked = sorted((Ranked(i, about[i], float(backed[i]), explained.get(i)) for i in range(len(names))), key=lambda item: -item.order)
    significant = len(names) > 0 and bool((moved.size >= limit["size_min"]).any())
    return Ranking(onset if significant else None, moved, ranked)


def components(ranking: Ranking) -> list[str]:
    """Components in the order of their best metric, each once."""
    return list(dict.fromkeys(item.name.component for item in ranking.ranked))


def _ratios(moved: Shifts) -> Array:
    """Log of after over before; where one of them is zero or they differ in sign, the sign of the move times 3 (a factor of 20)."""
    usable = (moved.before * moved.after) > 0
    quotient = np.divide(moved.after, moved.before, out=np.ones_like(moved.after), where=usable)
    logs: Array = np.where(usable, np.log(np.abs(quotient)), np.where(moved.size > 0, 3.0 * moved.sign, 0.0))
    return logs


def _beside_peers(about: Sequence[Named], moved: Shifts, limit: Mapping[str, float]) -> Array:
    """How many spreads of its peers' log ratios each column's own lies from their median; peers are the columns of the same kind."""
    logs = _ratios(moved)
    out = np.zeros_like(logs)
    for kind in Kind:
        mine = np.array([name.kind is kind for name in about], dtype=bool)
        if mine.any():
            middle = float(np.median(logs[mine])) if mine.sum() >= 4 else 0.0
            spread = 1.4826 * float(np.median(np.abs(logs[mine] - middle))) if mine.sum() >= 4 else 0.0
            out[mine] = np.abs(logs[mine] - middle) / max(spread, limit["peer_spread_min"])
    return out


def _weight(name: Named, moved: Shifts, column: int, explained: Mapping[int, int], limit: Mapping[str, float]) -> float:
    weight = min(1.0, float(moved.size[column]) / limit["size_min"])
    if name.kind in SYMPTOMS:
        weight = limit["symptom_weight"]
    elif name.kind is Kind.LOAD:
        weight = limit["load_weight"]
    if moved.sign[column] < 0 and name.kind is not Kind.OTHER:
        weight *= limit["fall_weight"]
    return weight * (limit["explained_weight"] if column in explained else 1.0)


def _beyond_load(about: Sequence[Named], moved: Shifts, explained: Mapping[int, int], limit: Mapping[str, float]) -> bool:
    """Whether some resource rose by more than any load can account for: then more load is not the cause, whatever it did meanwhile."""
    logs = _ratios(moved)
    most = max((float(logs[i]) for i, name in enumerate(about) if name.kind is Kind.LOAD), default=0.0)
    bound = max(limit["load_slack"] * most, 0.0) + np.log(limit["surge_ratio_min"])
    rising = (i for i, name in enumerate(about) if name.kind in RESOURCES and i not in explained and moved.sign[i] > 0)
    return any(moved.size[i] >= limit["size_min"] and logs[i] > bound for i in rising)


def _explained(about: Sequence[Named], moved: Shifts, limit: Mapping[str, float]) -> dict[int, int]:
    """Column → the column of the same component that accounts for its rise: its load for a CPU that rose no more than that, its memory for its CPU, any resource for latency."""
    logs = _ratios(moved)
    by: dict[tuple[str, Kind], int] = {}
    for index, name in enumerate(about):
        best = by.get((name.component, name.kind))
        if moved.sign[index] > 0 and (best is None or moved.size[index] > moved.size[best]):
            by[name.component, name.kind] = index
    surge = _surge(about, moved, logs, limit)
    found: dict[int, int] = {}
    for index, name in enumerate(about):
        if moved.sign[index] <= 0:
            continue
        load = by.get((name.component, Kind.LOAD), surge)
        memory = by.get((name.component, Kind.MEMORY))
        if name.kind in RESOURCES and load is not None and moved.size[load] >= limit["size_min"] and logs[index] <= limit["load_slack"] * logs[load]:
            found[index] = load
        elif name.kind is Kind.CPU and memory is not None and _weighs(about, moved, memory, limit) and logs[memory] >= np.log(limit["memory_ratio_min"]):
            found[index] = memory
        elif name.kind in SYMPTOMS and surge is not None:
            found[index] = surge
    return found


def _weighs(about: Sequence[Named], moved: Shifts, memory: int, limit: Mapping[str, float]) -> bool:
    """Whether a memory grew by more than noise, and by a part of what the components here use at all."""
    usual = float(np.median([moved.before[index] for index, name in enumerate(about) if name.kind is Kind.MEMORY]))
    return bool(moved.size[memory] >= limit["size_min"] and moved.after[memory] - moved.before[memory] >= limit["memory_part_min"] * usual)


def _surge(about: Sequence[Named], moved: Shifts, logs: Array, limit: Mapping[str, float]) -> int | None:
    """The load that rose most, where most of the loads rose: more work is coming in, and everything follows."""
    loads = [index for index, name in enumerate(about) if name.kind is Kind.LOAD]
    rose = [index for index in loads if moved.sign[index] > 0 and moved.size[index] >= limit["size_min"] and logs[index] >= np.log(limit["surge_ratio_min"])]
    return max(rose, key=lambda index: moved.size[index]) if rose and 2 * len(rose) >= len(loads) else None


def _backing(about: Sequence[Named], order: Array) -> Array:
    """For each column, the summed order of the other columns of its component, the best of each kind."""
    best: dict[str, dict[Kind, float]] = {}
    for name, value in zip(about, order, strict=True):
        kinds = best.setdefault(name.component, {})
        kinds[name.kind] = max(kinds.get(name.kind, 0.0), float(value))
    return np.array([sum(value for kind, value in best[name.component].items() if kind is not name.kind) for name in about])


__all__: list[Any] = ["THRESHOLDS", "Ranked", "Ranking", "components", "rank"]
