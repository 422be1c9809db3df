"""Policies played against arrivals: what must happen, happens; what cannot, does not."""

from __future__ import annotations

import pytest

from perfloop.capacity.replay import Replica, Scaler, candidates, choose, replay, spike

REPLICA = Replica(rate_slo_per_s=80, rate_max_per_s=100, cpu_per_request_s=0.01, startup_s=40, cost_per_hour=0.1)


def test_steady_load_within_the_target_needs_no_change_and_breaks_nothing() -> None:
    found = replay("steady", [60.0] * 1800, REPLICA, Scaler("p", "cpu", 60, 1, 10))
    assert (found.broken_s, found.replicas_max) == (0, 1)
    assert found.replica_hours == pytest.approx(0.5)
    assert found.cost == pytest.approx(0.05)


def test_a_lasting_rise_is_followed_after_the_start_up_time_and_not_before() -> None:
    arrivals = [60.0] * 600 + [300.0] * 1800
    found = replay("rise", arrivals, REPLICA, Scaler("p", "cpu", 60, 1, 20))
    assert found.replicas_max >= 5
    assert 40 <= found.broken_s < 400
    assert arrivals[-1] <= found.replicas_max * REPLICA.rate_slo_per_s


def test_a_maximum_that_is_too_low_breaks_the_slo_for_as_long_as_the_load_lasts() -> None:
    found = replay("rise", [300.0] * 900, REPLICA, Scaler("p", "cpu", 60, 1, 2))
    assert found.replicas_max == 2
    assert found.broken_s == 900


def test_down_only_after_five_minutes() -> None:
    found = replay("fall", [400.0] * 300 + [10.0] * 900, REPLICA, Scaler("p", "cpu", 60, 1, 20))
    counts = {second: count for second, _, count in found.timeline}
    assert all(count >= 5 for second, count in counts.items() if 300 < second < 590)
    assert min(counts.values()) == 1


def test_a_policy_by_rate_follows_where_cpu_says_nothing() -> None:
    """A service that waits: CPU stays low while the pool is the limit."""
    waits = Replica(rate_slo_per_s=80, rate_max_per_s=100, cpu_per_request_s=0.001, startup_s=20)
    arrivals = spike(40, 320, hold_s=1200)
    by_cpu = replay("spike", arrivals, waits, Scaler("naive", "cpu", 80, 1, 20))
    by_rate = replay("spike", arrivals, waits, Scaler("rate", "rate", 60, 1, 20))
    assert by_cpu.replicas_max == 1
    assert by_rate.broken_share < by_cpu.broken_share / 2


def test_the_chosen_policy_is_the_cheapest_that_holds_and_it_is_said_where_none_does() -> None:
    scenarios = [("spike", spike(60, 600))]
    found, holds = choose(scenarios, REPLICA, candidates("cpu", 80, 80, (1, 4, 8), 30), 0.01)
    assert holds
    assert replay("spike", scenarios[0][1], REPLICA, found).broken_share <= 0.01
    assert replay("spike", scenarios[0][1], REPLICA, Scaler("naive", "cpu", 80, 1, 30)).broken_share > 0.01
    assert not choose(scenarios, REPLICA, candidates("cpu", 80, 80, (1,), 2), 0.01)[1]


@pytest.mark.parametrize("arrivals", [[], [1.0] * (7 * 86_400 + 1)])
def test_a_simulation_is_bounded(arrivals: list[float]) -> None:
    with pytest.raises(ValueError, match="seconds"):
        replay("x", arrivals, REPLICA, Scaler("p", "cpu", 60, 1, 2))
