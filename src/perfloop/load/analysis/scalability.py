"""Scalability: throughput against concurrent users, as raw points for the scalability law; where it stops to grow, and whether it turns down."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import isfinite

from perfloop.model.base import Estimate
from perfloop.model.loadtest import Level, LoadKind, LoadTest, Measure
from perfloop.model.result import Slo
from perfloop.stats.intervals import geometric_t_interval

GROWS = 1.05  # less from one level to the next is no growth
FALLS = 0.95


def points(levels: Sequence[Level]) -> list[tuple[float, float]]:
    """(concurrency in the service, answers a second) of every level that was measured without many errors: what the law is fitted to."""
    return [(level.concurrency or level.x, level.throughput_per_s) for level in levels if level.throughput_per_s > 0 and level.error_rate <= 0.05]


def judge_scalability(levels: Sequence[Level], slo: Slo) -> LoadTest:
    """Yes, where throughput never falls with more users, and where there is an SLO, some level kept it. Levels of the same number of users are repeats."""
    users = sorted({level.x for level in levels})
    if len(users) < 3:
        return LoadTest(kind=LoadKind.SCALABILITY, answer=f"not judged: {len(users)} levels of users, three are needed", levels=tuple(levels))
    means = {n: _level([level.throughput_per_s for level in levels if level.x == n and level.throughput_per_s > 0]) for n in users}
    best = max(users, key=lambda n: means[n].value)
    last = users[-1]
    knee = next((n for n, more in itertools.pairwise(users) if means[more].value < GROWS * means[n].value), None)
    falls = best < last and _below(means[last], means[best], FALLS)
    measures = [
        Measure(name="most throughput", value=means[best], note=f"at {best:g} users"),
        Measure(
            name=f"throughput at {last:g} users against the most",
            value=Estimate(value=means[last].value / means[best].value, n=means[last].n, unit="x"),
            bound=f"≥ {FALLS:g}",
            ok=falls is False if falls is not None else None,
        ),
        Measure(
            name=f"efficiency at {best:g} users",
            value=Estimate(value=means[best].value / (means[users[0]].value / users[0] * best), n=means[best].n, unit="share"),
            note=f"throughput a user against that of {users[0]:g}",
        ),
    ]
    if slo.latency_p95_ms is not None:
        kept = [n for n in users if all(level.p95_s is not None and level.p95_s * 1000 <= slo.latency_p95_ms for level in levels if level.x == n)]
        measures.append(
            Measure(
                name="most users that keep the SLO",
                value=Estimate(value=max(kept), n=1, unit="users") if kept else None,
                bound=f"p95 ≤ {slo.latency_p95_ms:g} ms",
                ok=bool(kept),
            )
        )
    ok = False if any(m.ok is False for m in measures) else None if any(m.ok is None for m in measures[1:2]) else True
    where = f"it grows up to {last:g} users" if knee is None else f"it hardly grows beyond {knee:g} users"
    fall = f", and falls to {means[last].value:.0f} at {last:g}" if falls else ""
    return LoadTest(
        kind=LoadKind.SCALABILITY,
        ok=ok,
        answer=f"throughput is {means[best].value:.0f} requests/s at most ({best:g} users): {where}{fall}",
        measures=tuple(measures),
        levels=tuple(levels),
    )


def _level(values: Sequence[float]) -> Estimate:
    if not values:
        return Estimate(value=0.0, n=0, unit="1/s")
    if len(values) == 1:
        return Estimate(value=values[0], n=1, unit="1/s")
    value, low, high = geometric_t_interval(values)
    return Estimate(value=value, low=low if isfinite(low) else None, high=high if isfinite(high) else None, n=len(values), unit="1/s", source="repeats")


def _below(a: Estimate, b: Estimate, share: float) -> bool | None:
    """Is a below ``share`` of b? None where the repeats' intervals do not tell."""
    if a.value >= share * b.value:
        return False
    if a.low is None or b.low is None or a.high is None:
        return True if a.value < 0.9 * share * b.value else None
    return True if a.high < b.low else None
