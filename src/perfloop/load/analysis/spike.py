"""Spike: how deep the service falls when load jumps, and how long it needs to come back after the load has gone.

The seconds before the spike are the band of normal: their median p95, and how far they stray (median absolute deviation). The service is back at the first second
from which on ``STEADY`` seconds in a row are inside the band and fail no more than before. Latency counts from the intended start, so requests that waited
since the spike still count after it: recovery includes working off the queue.
"""

from __future__ import annotations

from collections.abc import Sequence

from perfloop.load.analysis.seconds import Instant, instants, median, shown
from perfloop.model.base import Estimate
from perfloop.model.loadtest import LoadKind, LoadTest, Measure
from perfloop.model.run import Window

STEADY = 3
BAND_FACTOR, BAND_DEVIATIONS, BAND_MIN_S = 1.5, 4.0, 0.002
NORMAL_MIN = 3  # seconds before the spike
RECOVERY_MAX_S = 10.0
ERROR_RATE_MAX = 0.01


def judge_spike(
    window: Window, spike_from_s: float, spike_to_s: float, factor: float, recovery_max_s: float = RECOVERY_MAX_S, error_rate_max: float = ERROR_RATE_MAX
) -> LoadTest:
    """Depth and recovery of one spike from ``spike_from_s`` to ``spike_to_s`` of the window. Yes, where the service came back in time and lost no more requests than promised."""
    seconds = instants(window)
    before = [second for second in seconds if second.at_s <= spike_from_s]
    during = [second for second in seconds if spike_from_s < second.at_s <= spike_to_s + 1]
    after = [second for second in seconds if second.at_s > spike_to_s]
    normal = [second.p95_s for second in before if second.p95_s is not None]
    if len(normal) < NORMAL_MIN or not during or len(after) < STEADY:
        return LoadTest(
            kind=LoadKind.SPIKE,
            answer=f"not judged: {len(normal)} seconds with answers before the spike and {len(after)} after it; {NORMAL_MIN} and {STEADY} are needed",
            windows=(window,),
        )
    level = median(normal)
    deviation = 1.4826 * median([abs(value - level) for value in normal])
    bound_s = max(BAND_FACTOR * level, level + BAND_DEVIATIONS * deviation, level + BAND_MIN_S)
    errors_before = sum(second.failed for second in before) / max(1, sum(second.ok + second.failed for second in before))
    back_s = _recovery(after, bound_s, max(errors_before, error_rate_max), spike_to_s)
    touched = during + [second for second in after if back_s is None or second.at_s <= spike_to_s + back_s]
    worst_s = max((second.p95_s for second in touched if second.p95_s is not None), default=None)
    ended, failed = (sum(values) for values in zip(*((s.ok + s.failed, s.failed) for s in touched), strict=True))
    lost = failed / ended if ended else 0.0
    recovered = back_s is not None and back_s <= recovery_max_s
    watched_s = after[-1].at_s - spike_to_s
    measures = (
        Measure(name="p95 before", value=Estimate(value=level, low=min(normal), high=max(normal), n=len(normal), unit="s", source="seconds before the spike")),
        Measure(
            name="depth: worst p95 of a second",
            value=Estimate(value=worst_s, n=len(touched), unit="s") if worst_s is not None else None,
            note=f"{worst_s / level:.1f} times the p95 before" if worst_s is not None else "no second of the spike had a success",
        ),
        Measure(name="requests lost", value=Estimate(value=lost, n=ended, unit="share"), bound=f"≤ {error_rate_max:.3g}", ok=lost <= error_rate_max),
        Measure(
            name="recovery after the end of the spike",
            value=Estimate(value=back_s, n=1, unit="s") if back_s is not None else None,
            bound=f"≤ {recovery_max_s:g} s, until {STEADY} seconds in a row are within {shown(bound_s)}",
            ok=True if recovered else False if back_s is not None or watched_s >= recovery_max_s else None,
            note="" if back_s is not None else f"not within the {watched_s:.0f} s that were watched",
        ),
    )
    ok = None if not window.generator_ok else False if any(m.ok is False for m in measures) else None if any(m.ok is None for m in measures[2:]) else True
    return LoadTest(kind=LoadKind.SPIKE, ok=ok, answer=_answer(factor, level, worst_s, back_s, watched_s, lost, bound_s), measures=measures, windows=(window,))


def _recovery(after: Sequence[Instant], bound_s: float, error_rate: float, spike_to_s: float) -> float | None:
    """Seconds from the end of the spike to the start of the first ``STEADY`` good seconds in a row; None where there are none."""
    good = [second.p95_s is not None and second.p95_s <= bound_s and second.error_rate <= error_rate for second in after]
    for i in range(len(good) - STEADY + 1):
        if all(good[i : i + STEADY]):
            return max(0.0, after[i].at_s - spike_to_s - 1.0) if i else 0.0
    return None


def _answer(factor: float, level: float, worst_s: float | None, back_s: float | None, watched_s: float, lost: float, bound_s: float) -> str:
    fell = "no request succeeded" if worst_s is None else f"p95 rose from {level * 1000:.3g} to {shown(worst_s)}"
    if worst_s is not None and worst_s <= bound_s:
        fell = f"p95 stayed at {shown(worst_s)} at most ({level * 1000:.3g} before)"
    came = f"it was back {back_s:.0f} s after the end" if back_s is not None else f"it was not back within {watched_s:.0f} s"
    return f"at {factor:g} times the load {fell}, {lost:.2%} of requests were lost, and {came}"
