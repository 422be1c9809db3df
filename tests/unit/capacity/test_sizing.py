"""Options, their cost and what they rest on; the table that users edit."""

from __future__ import annotations

import pytest

from perfloop.capacity.instances import builtin, parse
from perfloop.capacity.sizing import Service, latency_at, needs, options
from perfloop.errors import UsageError
from perfloop.model.base import Estimate
from perfloop.model.capacity import Demand, LoadPoint

CPU = Demand(
    resource="CPU of python", kind="cpu", unit="cores", capacity=1.0, demand=Estimate(value=0.01), saturates_at_per_s=Estimate(value=100.0), scales=True
)
DATABASE = Demand(
    resource="database CPU", kind="database", unit="cores", capacity=1.0, demand=Estimate(value=0.004), saturates_at_per_s=Estimate(value=250.0), scales=False
)
POINTS = tuple(LoadPoint(round=0, rate_per_s=rate, achieved_per_s=rate, concurrency=1, p95_s=p95) for rate, p95 in ((20.0, 0.01), (60.0, 0.02), (80.0, 0.04)))
SERVICE = Service(rate_slo_per_s=80, cores=1, memory_bytes=200 * 2**20, pool=10, connections_max=100)


def test_a_growth_names_what_does_not_suffice_in_the_order_of_saturation() -> None:
    twice, ten = needs((CPU, DATABASE), 80, 50, (2, 10))
    assert twice.short == ("CPU of python",)
    assert ten.short == ("CPU of python", "database CPU")
    assert ten.used == {"CPU of python": 5.0, "database CPU": 2.0}
    assert ten.keeps_slo is False


def test_the_cheapest_that_keeps_the_slo_is_chosen_and_says_what_it_assumes() -> None:
    found = options(150, SERVICE, (CPU,), POINTS, builtin())
    (chosen,) = [option for option in found if option.chosen]
    assert chosen.keeps_slo
    assert chosen.cost_per_month == min(option.cost_per_month for option in found if option.cost_per_month is not None)
    assert chosen.rate_per_s >= 150
    assert "vCPU" in chosen.assumes
    assert found[0].kind == "as it is"
    assert found[0].keeps_slo is False


def test_a_shared_resource_that_does_not_suffice_is_named_and_no_option_is_called_good() -> None:
    found = options(800, SERVICE, (CPU, DATABASE), POINTS, builtin())
    assert all(option.keeps_slo is not True for option in found)
    relief = next(option for option in found if option.kind == "database")
    assert "database CPU: 4.0 ×" in relief.changes[0]


def test_pools_and_max_connections_are_counted_together() -> None:
    (replicas,) = [option for option in options(720, SERVICE, (CPU,), POINTS, builtin()) if "as the present one" in option.title]
    assert replicas.replicas == 9
    assert "do not fit max_connections = 100: pools of 8" in replicas.changes[0]


def test_what_suffices_stays_as_it_is() -> None:
    found = options(60, SERVICE, (CPU,), POINTS, builtin())
    assert found[0].chosen
    assert found[0].p95_s == pytest.approx(0.02)


def test_a_shape_too_small_for_one_worker_is_left_out() -> None:
    heavy = Service(rate_slo_per_s=80, cores=1, memory_bytes=20 * 2**30)
    assert all("large" not in option.instance or "xlarge" in option.instance for option in options(150, heavy, (CPU,), POINTS, builtin()))


def test_latency_is_read_between_measured_points_and_not_beyond_them() -> None:
    assert latency_at(POINTS, 70) == pytest.approx(0.03)
    assert latency_at(POINTS, 5) == 0.01
    assert latency_at(POINTS, 90) is None
    assert latency_at((), 5) is None


@pytest.mark.parametrize(
    "text", ["dated = ", 'dated = "x"\n', 'dated = "x"\n[[instances]]\nprovider = "p"\nshapes = [{ name = "a", vcpu = 0, memory_gib = 1, per_hour = 1 }]']
)
def test_a_table_that_is_none_is_refused_with_the_key(text: str) -> None:
    with pytest.raises(UsageError, match=r"mine\.toml"):
        parse(text, "mine.toml")
