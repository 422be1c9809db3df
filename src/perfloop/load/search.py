"""Finds the highest rate that keeps the SLO, by probes of open load. Never interpolated: what is returned was sent.

Bisection spends its probes where nothing is known. Two things are known: a probe that fell behind shows what the service can do at most, and on the way there the inverse
of the p95 falls about linearly with the rate (in M/M/1 exactly: p95 = ln 20 / (μ − λ)). So the next probe goes to just below, or just above, the rate where that
line meets the SLO; where that did not halve the bracket twice, it is halved.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from perfloop.load.merge import merge_steps
from perfloop.load.summary import merge_windows
from perfloop.model.result import Slo
from perfloop.model.run import RateProbe, RateSearch, Window
from perfloop.stats.histogram import Histogram

ERROR_RATE_MAX = 0.01  # where the SLO promises nothing about errors
ACHIEVED_MIN = 0.95  # of the rate asked; below it the service falls behind, however fast its answers still are
KNEE_FACTOR, KNEE_MIN_S = 3.0, 0.020
RATE_MIN_PER_S = 0.5
DOWN_FACTOR = 4.0
TOLERANCE = 0.05
CLIMB_MIN, CLIMB_MAX = 2.0, 8.0
NEAR, WINDOWS_MAX = 1.6, 3
BEYOND = 1.15  # of what the service can do at most: enough to fail there, little enough not to drown it

Probe = Callable[[float], Generator[Any, None, Window]]


def search_rate(
    probe: Probe, slo: Slo, *, start_per_s: float, max_per_s: float, tolerance: float = TOLERANCE, probes_max: int = 8, ceiling_per_s: float | None = None
) -> Generator[Any, None, RateSearch]:
    """The highest rate whose probe kept the SLO; passes on what the probes yield.

    Up from ``start_per_s`` until a probe fails (or down, where the first one does), then closing in until the lowest bad rate is within ``tolerance`` of the
    highest good one, with ``probes_max`` probes at most. The rate returned is one that was measured; None where no probe kept the SLO. ``bounded`` is False where
    ``max_per_s`` was good, or where the load generator and not the service was the limit. ``ceiling_per_s`` is what the service is thought to
    be able to do at most (a window of closed load shows it): it only chooses where to probe, and is no answer.
    """
    if not start_per_s > 0 or probes_max < 1:
        raise ValueError("a search needs a start above 0 and at least one probe")
    state = _State(slo, tolerance, max_per_s, ceiling_per_s)
    rate = min(start_per_s, max_per_s)
    # half of the probes climb, the other half close in
    climb = min(CLIMB_MAX, max(CLIMB_MIN, (max_per_s / rate) ** (1 / max(1, probes_max // 2 - 1)))) if ceiling_per_s is None else CLIMB_MAX
    for number in range(probes_max):
        window = yield from _asked(probe, rate, slo)
        late = not window.generator_ok
        state.add(rate, judge(window, slo), late)
        if late and rate not in state.late:
            state.late.add(rate)  # once may be an accident of this machine: the same rate again
            continue
        state.settle(rate, late)
        next_rate = state.next_rate(rate, climb, probes_max - number - 1)
        if next_rate is None:
            break
        rate = next_rate
    bounded = state.bad is not None and not state.bad_is_ours and not state.unsettled(rate)
    return RateSearch(rate_per_s=state.good, slo=slo_text(slo), probes=tuple(state.probes), bounded=bounded)


def _asked(probe: Probe, rate: float, slo: Slo) -> Generator[Any, None, Window]:
    """One probe: longer where its p95 is near the bound, because the p95 of a short window near saturation is mostly luck."""
    windows: list[Window] = []
    while True:
        windows.append((yield from probe(rate)))
        merged = merge_windows("probe", windows)
        seen = judge(merged, slo)
        bound_s = slo.latency_p95_ms / 1000 if slo.latency_p95_ms else None
        near = bound_s is not None and seen.p95_s is not None and 1 / NEAR <= seen.p95_s / bound_s <= NEAR
        if not near or not merged.generator_ok or merged.stopped_early or len(windows) >= WINDOWS_MAX:
            return merged


@dataclass
class _State:
    slo: Slo
    tolerance: float
    max_per_s: float
    ceiling_per_s: float | None
    probes: list[RateProbe] = field(default_factory=list)
    good: float | None = None  # highest rate that kept the SLO
    bad: float | None = None  # lowest rate that did not
    bad_is_ours: bool = False
    late: set[float] = field(default_factory=set)
    slow: int = 0  # guesses in a row that did not halve the bracket
    bracket: float = float("inf")

    def add(self, rate: float, probe: RateProbe, late: bool) -> None:
        self.probes.append(probe.with_(ok=probe.ok and not late, rate_per_s=rate))

    def settle(self, rate: float, late: bool) -> None:
        """Takes the last probe of this rate as its answer."""
        last = self.probes[-1]
        if last.ok:
            self.good = max(rate, self.good or 0.0)
            if self.ceiling_per_s is not None:
                self.ceiling_per_s = max(self.ceiling_per_s, rate)
        elif self.bad is None or rate < self.bad:
            self.bad, self.bad_is_ours = rate, late
            if not late and RATE_MIN_PER_S <= last.achieved_per_s < ACHIEVED_MIN * rate and last.error_rate < 0.5:
                self.ceiling_per_s = last.achieved_per_s  # it fell behind: this is what it can do

    def unsettled(self, rate: float) -> bool:
        """True where the last probe was late and there was none left to repeat it."""
        return bool(self.probes) and rate in self.late and not self.probes[-1].ok and self.bad != rate

    def next_rate(self, rate: float, climb: float, left: int) -> float | None:
        if self.bad is None:
            return None if rate >= self.max_per_s else min(self._higher(rate, climb), self.max_per_s)
        if self.good is None:
            guess = self.ceiling_per_s
            lower = min(guess * (1 - self.tolerance), self.bad / 1.1) if guess and guess < self.bad else self.bad / DOWN_FACTOR
            return lower if lower >= RATE_MIN_PER_S else None
        if self.bad / self.good <= 1 + self.tolerance:
            return None
        return self._between(self.good, self.bad, left)

    def _higher(self, rate: float, climb: float) -> float:
        """Nothing has failed yet: towards where it is expected to fail."""
        if self.ceiling_per_s is None:
            return rate * climb
        guess = self._guess(rate)
        step = 1 + 0.8 * self.tolerance
        if guess is None or guess <= rate * step:
            return rate * (step if rate > self.ceiling_per_s * 0.5 and self.slow < 1 else BEYOND) if rate > self.ceiling_per_s / BEYOND else self.ceiling_per_s
        return min(guess * (1 - 0.4 * self.tolerance), rate * 1_000)

    def _between(self, good: float, bad: float, left: int) -> float:
        """Just below the guess, or just above it where below was good; halved where guesses do not help."""
        ratio = bad / good
        self.slow = self.slow + 1 if ratio > 1 + (self.bracket - 1) / 2 else 0
        self.bracket = ratio
        middle = sqrt(good * bad)
        guess = self._guess(good)
        if guess is None or self.slow >= 2 or left <= 1:
            self.slow = 0
            return middle
        margin = 0.4 * self.tolerance
        low, high = guess * (1 - margin), guess * (1 + margin)
        if good < low < bad and bad / low > 1 + self.tolerance / 4:
            wanted = low
        elif good < high < bad:
            wanted = high
        else:
            # the guess is at an end of the bracket: a step from that end, half as long as the tolerance allows twice
            wanted = good * (1 + 0.9 * self.tolerance) if guess <= good else bad / (1 + 0.9 * self.tolerance)
        return wanted if good * 1.005 < wanted < bad / 1.005 else middle

    def _guess(self, good: float) -> float | None:
        """The rate where the p95 is expected to meet the SLO: p95 = floor + a / (ceiling − rate) through the two highest probes that kept up, else without a floor."""
        bound_s = self.slo.latency_p95_ms / 1000 if self.slo.latency_p95_ms else None
        steady = sorted(
            (p.rate_per_s, p.p95_s) for p in self.probes if p.p95_s and p.achieved_per_s >= ACHIEVED_MIN * p.rate_per_s and p.rate_per_s not in self.late
        )
        if bound_s is None or not steady:
            return self.ceiling_per_s
        ceiling = self.ceiling_per_s
        if ceiling is None or ceiling <= steady[-1][0]:
            above = [(rate, p95_s) for rate, p95_s in steady if rate > good]
            if not above:
                return ceiling
            (x0, p0), (x1, p1) = max((s for s in steady if s[0] <= good), default=above[0]), above[0]
            return x0 + (1 / p0 - 1 / bound_s) / (1 / p0 - 1 / p1) * (x1 - x0) if p1 > p0 else ceiling
        (x0, p0), (x1, p1) = (steady[-2], steady[-1]) if len(steady) > 1 else (steady[-1], steady[-1])
        if p1 > p0 and x1 > x0:
            slope = (p1 - p0) / (1 / (ceiling - x1) - 1 / (ceiling - x0))
            floor = p1 - slope / (ceiling - x1)
            if floor >= 0 and bound_s > floor:
                return ceiling - slope / (bound_s - floor)
        return ceiling - p1 * (ceiling - x1) / bound_s


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
