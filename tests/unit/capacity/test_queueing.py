"""Queues against published answers, against each other, and against a simulation."""

from __future__ import annotations

from math import inf
from random import Random

import pytest

from perfloop.capacity.queueing import agrees, bounds, mg1, mmc, mmc_quantile_s, mva


def test_gross_and_harris_three_servers() -> None:
    found = mmc(6, 1 / 3, 3)
    assert found.p_empty == pytest.approx(1 / 9)
    assert found.waiting == pytest.approx(8 / 9)


def test_gross_and_harris_insurance_network() -> None:
    """Example 4.2: calls choose (1 server), claims (3) and service (7), with 2 % and 1 % of them sent on to the other."""
    claims = (0.55 * 35 + 0.01 * 0.45 * 35) / (1 - 0.02 * 0.01)
    service = 0.45 * 35 + 0.02 * claims
    lengths = [mmc(35, 1 / 120, 1).inside, mmc(claims, 6 / 60, 3).inside, mmc(service, 20 / 60, 7).inside]
    assert lengths == pytest.approx([0.4118, 2.7059, 6.7809], abs=5e-5)


def test_one_server_is_the_same_by_both_formulas_and_constant_service_waits_half_as_long() -> None:
    assert mg1(7, 0.1, 1.0).wait_s == pytest.approx(mmc(7, 0.1, 1).wait_s)
    assert mg1(7, 0.1, 0.0).wait_s == pytest.approx(mmc(7, 0.1, 1).wait_s / 2)


@pytest.mark.parametrize("servers", [1, 2, 5])
def test_percentiles_agree_with_a_simulated_queue(servers: int) -> None:
    dice, free, clock, times = Random(5), [0.0] * servers, 0.0, []
    for _ in range(200_000):
        clock += dice.expovariate(0.7 * servers)
        first = min(range(servers), key=free.__getitem__)
        free[first] = max(clock, free[first]) + dice.expovariate(1.0)
        times.append(free[first] - clock)
    times.sort()
    for share in (0.5, 0.95, 0.99):
        assert mmc_quantile_s(0.7 * servers, 1.0, servers, share) == pytest.approx(times[int(share * len(times))], rel=0.06)


def test_more_load_than_servers_has_no_steady_state() -> None:
    assert mmc(10, 0.1, 1).wait_s == inf
    assert mg1(11, 0.1, 1).response_s == inf
    assert mmc_quantile_s(20, 0.1, 2, 0.95) == inf


def test_many_servers_do_not_overflow() -> None:
    found = mmc(1900, 1.0, 2000)
    assert 0 < found.p_wait < 0.1
    assert found.inside == pytest.approx(1900, rel=0.01)


def test_mean_value_analysis_of_one_centre_and_thinking_is_the_machine_repair_model() -> None:
    """M/M/1//N with N = 3, Z = 1, S = 0.5: P0 = 1 / (1 + 3ρ + 6ρ² + 6ρ³), ρ = 0.5."""
    p_empty = 1 / (1 + 1.5 + 1.5 + 0.75)
    assert mva([0.5], 3, 1.0)[-1].throughput_per_s == pytest.approx((1 - p_empty) / 0.5)


def test_mean_value_analysis_with_several_servers_is_the_machine_repair_model_with_two_repairers() -> None:
    """M/M/2//3: weights 1, 3ρ, 3ρ², 1.5ρ³ with ρ = S/Z = 0.5."""
    weights = [1, 1.5, 0.75, 0.1875]
    busy = (weights[1] + 2 * (weights[2] + weights[3])) / sum(weights)
    assert mva([0.5], 3, 1.0, [2])[-1].throughput_per_s == pytest.approx(busy / 0.5)


def test_no_closed_network_exceeds_its_bounds_and_large_ones_reach_them() -> None:
    found, edge = mva([0.02, 0.05, 0.01], 60, 0.3), bounds([0.02, 0.05, 0.01], 0.3)
    assert all(one.throughput_per_s <= edge.throughput_max_per_s + 1e-9 and one.response_s >= edge.response_min_s - 1e-9 for one in found)
    assert found[-1].throughput_per_s == pytest.approx(20, rel=1e-3)
    assert edge.knee == pytest.approx(7.6)
    assert sum(found[-1].inside) + found[-1].throughput_per_s * 0.3 == pytest.approx(60)


@pytest.mark.parametrize("call", [lambda: mmc(1, 0, 1), lambda: mmc(1, 1, 0), lambda: mg1(-1, 1, 1), lambda: mva([], 1), lambda: mva([1.0], 0)])
def test_what_is_no_queue_is_refused(call: object) -> None:
    with pytest.raises(ValueError, match="needs"):
        call()  # type: ignore[operator]


def test_a_model_is_only_believed_where_the_measurement_bears_it_out() -> None:
    assert agrees(0.11, 0.1, 0.09, 0.12)
    assert not agrees(0.2, 0.1, 0.09, 0.12)
