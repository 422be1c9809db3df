"""The utilisation law, and what the stacks say about locks and pools."""

from __future__ import annotations

from random import Random

import pytest

from perfloop.capacity.demands import demand, in_order
from perfloop.capacity.sections import held, sections
from perfloop.model.evidence import Frame, SourceSnippet, Stack, StacksObservation

RATES = (10.0, 20.0, 30.0, 40.0) * 3


def test_a_demand_and_its_end_are_found_beside_what_is_used_without_load() -> None:
    hits = 0
    for idle, seed in ((idle, seed) for idle in (None, 0.05) for seed in range(50)):
        dice = Random(seed)
        points = [(rate, 0.05 + 0.01 * rate * dice.gauss(1, 0.02)) for rate in RATES]
        found = demand("CPU of x", "cpu", "cores", points, 1.0, idle=idle)
        assert found.demand is not None
        assert found.demand.value == pytest.approx(0.01, rel=0.05)
        assert found.saturates_at_per_s is not None
        assert found.saturates_at_per_s.value == pytest.approx(95, rel=0.05)
        assert found.saturates_at_per_s.low is not None
        hits += found.saturates_at_per_s.low < 95 < (found.saturates_at_per_s.high or 0)
    assert 80 <= hits <= 99


def test_slow_windows_do_not_move_a_demand_that_has_its_idle_part_measured() -> None:
    points = [(rate, 0.01 * rate * (1.5 if number % 6 == 0 else 1.0)) for number, rate in enumerate(RATES)]
    found = demand("CPU of x", "cpu", "cores", points, 1.0, idle=0.0)
    assert found.demand is not None
    assert found.demand.value == pytest.approx(0.01)


def test_what_does_not_depend_on_the_load_ends_nothing() -> None:
    dice = Random(2)
    found = demand("memory", "memory", "bytes", [(rate, 1e8 + dice.gauss(0, 1e5)) for rate in RATES], 1e9)
    assert found.saturates_at_per_s is None
    assert "not told from nothing" in found.note


def test_an_unknown_capacity_is_unknown_and_comes_last() -> None:
    points = [(rate, 100.0 * rate * (1 + 0.01 * (rate % 3))) for rate in RATES]
    unknown = demand("network", "network", "bytes/s", points, None, "no link rate")
    known = demand("CPU", "cpu", "cores", [(rate, 0.01 * rate * (1 + 0.001 * (rate % 3))) for rate in RATES], 1.0)
    assert "no link rate" in unknown.note
    assert [item.resource for item in in_order([unknown, known])] == ["CPU", "network"]


def test_one_rate_gives_a_demand_by_the_share_of_time() -> None:
    found = demand("lock", "lock", "holders", [(40.0, 0.24), (40.0, 0.26)], 1.0)
    assert found.saturates_at_per_s is not None
    assert found.saturates_at_per_s.value == pytest.approx(160)
    assert demand("lock", "lock", "holders", [(40.0, 0.0)], 1.0).note == "nothing of it was seen in use"


SOURCE = """def work(self):
    before()
    with LOCK:
        inside()
        more()
    with pool.connection() as connection:
        query()
    with open("x") as file:
        file.read()
"""


def test_holders_and_waiters_are_told_apart_by_line() -> None:
    snippet = SourceSnippet(file="/srv/app.py", function="work", first_line=101, text=SOURCE)
    found = sections([snippet])
    assert [(item.kind, item.line, item.what) for item in found] == [("lock", 103, "LOCK"), ("pool", 106, "pool.connection()")]
    frames = tuple(
        Frame(function=name, file="/srv/app.py", line=line) for name, line in (("work", 103), ("work", 104), ("work", 107), ("inside", 3), ("work", 102))
    )
    stacks = tuple(Stack(thread="t", frames=seen, total=total, active=0.0) for seen, total in (((0,), 100.0), ((1, 3), 250.0), ((2,), 50.0), ((4,), 600.0)))
    observation = StacksObservation(pid=1, sampler="x", rate_hz=100.0, window_s=5.0, frames=frames, stacks=stacks)
    lock, pool = held(found, [observation])
    assert (lock.holders, lock.waiting) == (0.5, 0.2)
    assert (pool.holders, pool.waiting) == (0.1, 0.0)


def test_text_that_is_no_python_holds_no_section() -> None:
    assert sections([SourceSnippet(file="/x.py", function="f", first_line=1, text="def f(:")]) == ()


def test_a_demand_that_scatters_too_much_ends_nothing() -> None:
    points = [(rate, 0.05 * number) for number, rate in enumerate((3.0, 3.0, 5.0, 5.0, 8.0, 8.0))]
    found = demand("core 0", "cpu", "cores", points, 1.0, idle=0.0)
    assert found.saturates_at_per_s is None
    assert found.note
