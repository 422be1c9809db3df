"""How fast bursts are worked off, on simulated services with a known end, and what is said where they do not tell."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

import pytest

from perfloop.capacity.bursts import drain, end, sizes
from perfloop.capacity.demands import demand, without_wakes
from perfloop.loop.bursts import largest, slot_s
from perfloop.model.base import Estimate


def served(size: int, servers: int, draw: Callable[[], float], before_s: float = 0.001) -> float:
    """Seconds until the last of ``size`` requests is answered by so many servers, first come first served."""
    free = [before_s] * servers
    for _ in range(size):
        heapq.heappush(free, heapq.heappop(free) + draw())
    return max(free)


def bursts(servers: int, mean_s: float, spread: float, seed: int, most: int = 16, disturbed: float = 0.0) -> list[tuple[int, float]]:
    dice = Random(seed)
    found = []
    for _ in range(8):
        for size in sizes(most):
            took = served(size, servers, lambda: mean_s * max(0.1, dice.gauss(1, spread)))
            found.append((size, took + (0.05 if dice.random() < disturbed else 0.0)))
    return found


@pytest.mark.parametrize("servers", [1, 2, 4])
@pytest.mark.parametrize("disturbed", [0.0, 0.1])
def test_the_end_of_a_service_is_found_also_where_some_bursts_were_disturbed(servers: int, disturbed: float) -> None:
    off, inside = [], 0
    for seed in range(20):
        found = drain(bursts(servers, 0.004 * servers, 0.2, seed, disturbed=disturbed)).rate
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        off.append(abs(found.value / 250 - 1))
        inside += found.low * 0.9 <= 250 <= found.high * 1.1
    assert max(off) < 0.2
    assert sum(off) / len(off) < 0.06
    assert inside >= 18


def test_bursts_that_do_not_fill_the_service_tell_nothing() -> None:
    found = drain(bursts(40, 0.05, 0.02, 1))
    assert found.rate is None
    assert found.note
    assert "too few" in drain([(4, 0.01)] * 5).note
    assert drain([(2 + n % 8, Random(n).expovariate(20)) for n in range(64)]).rate is None


def test_where_law_and_bursts_disagree_the_lower_end_is_planned_with_and_it_is_said() -> None:
    law, close, slow, fast = (Estimate(value=value, low=0.9 * value, high=1.1 * value, n=9) for value in (100, 115, 60, 180))
    both, said = end(law, close)
    assert both is not None
    assert both.low is not None
    assert both.high is not None
    assert said == ""
    assert both.value == pytest.approx((100 * 115) ** 0.5)
    assert both.high - both.low < 0.2 * 100
    sharp, _ = end(law, close.with_(low=114.0, high=116.0))
    assert sharp is not None
    assert sharp.value == pytest.approx(115, rel=0.01)
    assert end(law, None) == (law, "")
    assert end(None, close) == (close, "")
    found, said = end(law, slow)
    assert found is slow
    assert "not seen" in said
    found, said = end(law, fast)
    assert found is law
    assert "put off" in said


def test_what_waking_up_costs_is_no_part_of_the_end() -> None:
    singles = [(rate, 0.02 + 0.004 * rate + 0.001 * rate * (1 - rate / 250)) for rate in (25.0, 50.0, 75.0, 100.0)]
    in_bursts = [(80.0, 0.02 + 0.004 * 80 + 0.001 * 8)] * 2
    wakes = [rate * (1 - rate / 250) for rate, _ in singles] + [8.0, 8.0]
    found = demand("CPU", "cpu", "cores", without_wakes([*singles, *in_bursts], wakes, 0.02), 1.0, idle=0.02)
    assert found.saturates_at_per_s is not None
    assert found.saturates_at_per_s.value == pytest.approx(245, rel=0.01)
    assert without_wakes(singles, wakes[:4], 0.02) == singles


def test_a_burst_keeps_the_bound_and_the_mean_rate_its_share() -> None:
    for ends, bound in ((250.0, 0.06), (60.0, 0.2), (5_000.0, 0.03), (150.0, 1.0)):
        most = largest(ends, bound, 0.004)
        wanted = sizes(most)
        assert 6 <= most <= 48
        assert most == 6 or most / ends <= bound
        assert len(wanted) >= 3
        each = slot_s(ends, 0.4, wanted)
        assert sum(wanted) / len(wanted) / each <= 0.4 * ends * 1.001
