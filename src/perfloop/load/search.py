"""Finds the highest rate that keeps the SLO, by probes of open load: a geometric ramp, then bisection. Never interpolated."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from perfloop.load.merge import merge_steps
from perfloop.model.result import Slo
from perfloop.model.run import RateProbe, RateSearch, Window
from perfloop.stats.histogram import Histogram

ERROR_RATE_MAX = 0.01  # where the SLO promises nothing about errors
ACHIEVED_MIN = 0.95  # of the rate asked; below it the service falls behind, however fast its answers still are
KNEE_FACTOR, KNEE_MIN_S = 3.0, 0.020
RATE_MIN_PER_S = 0.5
DOWN_FACTOR = 4.0

Probe = Callable[[float], Generator[Any, None, Window]]


def search_rate(
    probe: Probe, slo: Slo, *, start_per_s: float, max_per_s: float, tolerance: float = 0.075, probes_max: int = 8
) -> Generator[Any, None, RateSearch]:
    """The highest rate whose probe kept the SLO; passes on what the probes yield.

    Up from ``start_per_s`` by a factor until a probe fails (or down, where the first one does), then halving the ratio between the highest good and the
    lowest bad rate until it is within ``tolerance``, with ``probes_max`` probes at most. The rate returned is one that was measured; None where no probe
    kept the SLO. ``bounded`` is False where ``max_per_s`` was good, or where the load generator and not the service was the limit.
    """
    if not start_per_s > 0 or probes_max < 1:
        raise ValueError("a search needs a start above 0 and at least one probe")
    state = _State(tolerance)
    rate = min(start_per_s, max_per_s)
    # half of the probes climb, the other half close in
    factor = max(2.0, (max_per_s / rate) ** (1 / max(1, probes_max // 2 - 1)))
    for _ in range(probes_max):
        window = yield from probe(rate)
        late = not window.generator_ok
        state.add(rate, judge(window, slo), late)
        if late and rate not in state.late:
            state.late.add(rate)  # once may be an accident of this machine: the same rate again
            continue
        state.settle(rate, late)
        next_rate = state.next_rate(rate, factor, max_per_s)
        if next_rate is None:
            break
        rate = next_rate
    bounded = state.bad is not None and not state.bad_is_ours and not state.unsettled(rate)
    return RateSearch(rate_per_s=state.good, slo=slo_text(slo), probes=tuple(state.probes), bounded=bounded)


@dataclass
class _State:
    tolerance: float
    probes: list[RateProbe] = field(default_factory=list)
    good: float | None = None  # highest rate that kept the SLO
    bad: float | None = None  # lowest rate that did not
    bad_is_ours: bool = False
    late: set[float] = field(default_factory=set)

    def add(self, rate: float, probe: RateProbe, late: bool) -> None:
        self.probes.append(probe.with_(ok=probe.ok and not late, rate_per_s=rate))

    def settle(self, rate: float, late: bool) -> None:
        """Takes the last probe of this rate as its answer."""
        if self.probes[-1].ok:
            self.good = max(rate, self.good or 0.0)
        elif self.bad is None or rate < self.bad:
            self.bad, self.bad_is_ours = rate, late

    def unsettled(self, rate: float) -> bool:
        """True where the last probe was late and there was none left to repeat it."""
        return bool(self.probes) and rate in self.late and not self.probes[-1].ok and self.bad != rate

    def next_rate(self, rate: float, factor: float, max_per_s: float) -> float | None:
        if self.bad is None:
            return None if rate >= max_per_s else min(rate * factor, max_per_s)
        if self.good is None:
            lower = self.bad / DOWN_FACTOR
            return lower if lower >= RATE_MIN_PER_S else None
        return sqrt(self.good * self.bad) if self.bad / self.good > 1 + self.tolerance else None


def judge(window: Window, slo: Slo) -> RateProbe:
    """One window against the SLO: percentiles, error rate, and whether answers kept up with the rate. Lateness is the caller's to judge."""
    total = merge_steps("total", window.steps)
    latency = Histogram.from_data(total.latency)
    p95, p99 = latency.quantile(0.95), latency.quantile(0.99)
    error_rate = (total.sent - total.ok) / total.sent if total.sent else 0.0
    if window.achieved_per_s is None:  # a window of another source: all that came, over the time in which load was sent
        achieved, asked = (count / window.duration_s if window.duration_s else 0.0 for count in (total.ok, total.sent))
    else:
        achieved, asked = window.achieved_per_s, window.rate_per_s
    ok = (
        p95 is not None
        and p99 is not None
        and not window.stopped_early
        and (slo.latency_p95_ms is None or p95 * 1000 <= slo.latency_p95_ms)
        and (slo.latency_p99_ms is None or p99 * 1000 <= slo.latency_p99_ms)
        and error_rate <= (ERROR_RATE_MAX if slo.error_rate_max is None else slo.error_rate_max)
        and achieved >= ACHIEVED_MIN * asked
    )
    return RateProbe(rate_per_s=window.rate_per_s, achieved_per_s=achieved, p95_s=p95, error_rate=error_rate, ok=ok)


def knee_slo(first_window: Window) -> Slo:
    """The SLO that finds the knee of a service that promises nothing: p95 within 3 × that of the lowest rate, or within 20 ms more, whichever is larger.

    Where the first window has no success, only errors and keeping up count.
    """
    p95 = Histogram.from_data(merge_steps("total", first_window.steps).latency).quantile(0.95)
    if p95 is None:
        return Slo(error_rate_max=ERROR_RATE_MAX)
    return Slo(latency_p95_ms=max(KNEE_FACTOR * p95, p95 + KNEE_MIN_S) * 1000, error_rate_max=ERROR_RATE_MAX)


def slo_text(slo: Slo) -> str:
    """The SLO in words: ``p95 ≤ 200 ms, errors ≤ 1 %``."""
    parts = [f"{name} ≤ {bound:.4g} ms" for name, bound in (("p95", slo.latency_p95_ms), ("p99", slo.latency_p99_ms)) if bound is not None]
    return ", ".join([*parts, f"errors ≤ {100 * (ERROR_RATE_MAX if slo.error_rate_max is None else slo.error_rate_max):.3g} %"])
