"""When requests should start and which they are: pure functions of the workload, so that the same seed gives the same schedule.

Both arms of a comparison use one seed: then they get the same arrivals and the same requests in the same order, and the noise
of the schedule cancels in their ratio (common random numbers).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from random import Random


def arrival_times(rate_per_s: float, duration_s: float, arrival: str, seed: int) -> Iterator[float]:
    """Seconds from the start of each request, ascending, all below ``duration_s``.

    ``constant``: i/rate. ``poisson``: independent exponential gaps of mean 1/rate, so the count varies by its square root.
    """
    if arrival == "constant":
        # the slack keeps 0.3 · 10 = 3.0000000000000004 from adding a fourth request
        count = -int(-(rate_per_s * duration_s - 1e-9) // 1)
        for i in range(count):
            yield i / rate_per_s
        return
    draw = Random(f"{seed} arrivals").expovariate
    at = draw(rate_per_s)
    while at < duration_s:
        yield at
        at += draw(rate_per_s)


def step_choices(weights: Sequence[float], seed: int) -> Iterator[int]:
    """Endless indices of steps, drawn by weight; independent of the rate, so a slower window sends a prefix of a faster one."""
    bounds = list(accumulate(weights))
    total, last = bounds[-1], len(bounds) - 1
    if last == 0:
        while True:
            yield 0
    draw = Random(f"{seed} steps").random
    while True:
        yield min(bisect(bounds, draw() * total), last)
