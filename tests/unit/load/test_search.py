"""The search for the highest rate, on services whose limit is known."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from perfloop.load.run import Progress, run_window
from perfloop.load.search import judge, knee_slo, search_rate, slo_text
from perfloop.model.journey import Step, Workload
from perfloop.model.result import Slo
from perfloop.model.run import RateSearch, StepSamples, Window
from perfloop.stats.histogram import Histogram

PROMISE = Slo(latency_p95_ms=100)


def window(rate: float, p95_s: float, *, achieved: float = 1.0, errors: int = 0, late: bool = False, **words) -> Window:
    histogram = Histogram()
    for _ in range(100 - errors):
        histogram.record(p95_s)
    step = StepSamples(name="a", sent=100, ok=100 - errors, errors={"status_5xx": errors} if errors else {}, latency=histogram.to_data())
    return Window(
        **{
            "label": "p",
            "started_at": "",
            "duration_s": 1.0,
            "rate_per_s": rate,
            "steps": (step,),
            "generator_ok": not late,
            "achieved_per_s": rate * achieved,
            **words,
        }
    )


def search(answer: Callable[[float], Window], slo: Slo = PROMISE, **words) -> tuple[RateSearch, list[float]]:
    asked: list[float] = []

    def probe(rate: float) -> Generator[str, None, Window]:
        asked.append(rate)
        yield "event"
        return answer(rate)

    result, events = run(search_rate(probe, slo, **{"start_per_s": 8, "max_per_s": 500, **words}))
    assert len(events) == len(asked) == len(result.probes)
    return result, asked


def run(load: Generator[Any, None, RateSearch]) -> tuple[RateSearch, list[Any]]:
    events = []
    while True:
        try:
            events.append(next(load))
        except StopIteration as stop:
            return stop.value, events


@pytest.mark.parametrize("limit", [9, 25, 77, 130, 311, 480])
def test_finds_the_limit_by_measured_rates_only(limit):
    result, asked = search(lambda rate: window(rate, 0.01 if rate <= limit else 5.0))
    assert result.rate_per_s in asked
    assert len(asked) <= 8
    assert limit / 1.15 <= result.rate_per_s <= limit
    assert result.bounded
    assert [probe.ok for probe in result.probes] == [rate <= limit for rate in asked]


def test_goes_down_where_the_start_is_too_much():
    result, asked = search(lambda rate: window(rate, 0.01 if rate <= 3 else 5.0))
    assert asked[:2] == [8, 2]
    assert 2 <= result.rate_per_s <= 3


def test_nothing_keeps_the_slo():
    result, asked = search(lambda rate: window(rate, 5.0))
    assert result.rate_per_s is None
    assert result.bounded
    assert len(asked) <= 8


def test_the_upper_end_was_never_reached():
    result, asked = search(lambda rate: window(rate, 0.01))
    assert (result.rate_per_s, result.bounded) == (500, False)
    assert asked[-1] == 500


def test_a_late_generator_bounds_the_search_after_a_second_try():
    result, asked = search(lambda rate: window(rate, 0.01, late=rate > 100))
    assert result.rate_per_s <= 100
    assert not result.bounded
    assert asked.count(asked[2]) == 2 or asked.count(asked[1]) == 2
    late_once: list[float] = []

    def once(rate: float) -> Window:
        late = rate > 100 and not late_once
        late_once.extend([rate] if late else [])
        return window(rate, 0.01, late=late)

    result, _ = search(once)
    assert result.rate_per_s == 500


def test_one_probe_only():
    result, asked = search(lambda rate: window(rate, 0.01), probes_max=1)
    assert (result.rate_per_s, asked, result.bounded) == (8, [8], False)


@pytest.mark.parametrize(
    ("given", "slo", "ok"),
    [
        (window(10, 0.09), Slo(latency_p95_ms=100), True),
        (window(10, 0.11), Slo(latency_p95_ms=100), False),
        (window(10, 0.09), Slo(latency_p99_ms=50), False),
        (window(10, 9.0), Slo(), True),
        (window(10, 0.01, errors=2), Slo(), False),
        (window(10, 0.01, errors=2), Slo(error_rate_max=0.05), True),
        (window(10, 0.01, achieved=0.94), Slo(), False),
        (window(10, 0.01, achieved=0.96), Slo(), True),
        (window(10, 0.01, stopped_early="many errors"), Slo(error_rate_max=1.0), False),
        (window(10, 0.01, errors=100, achieved_per_s=None), Slo(error_rate_max=1.0), False),
    ],
)
def test_what_a_probe_must_keep(given, slo, ok):
    assert judge(given, slo).ok is ok


def test_the_slo_of_a_knee():
    assert knee_slo(window(8, 0.1)).latency_p95_ms == pytest.approx(300, rel=0.02)
    assert knee_slo(window(8, 0.002)).latency_p95_ms == pytest.approx(22, rel=0.02)
    assert knee_slo(window(8, 0.1, errors=100)).latency_p95_ms is None
    assert slo_text(Slo(latency_p95_ms=200)) == "p95 ≤ 200 ms, errors ≤ 1 %"


def test_a_real_service_with_a_known_limit(serve):
    """One request at a time, 25 ms each: 40/s at most."""
    import asyncio

    lock = asyncio.Lock()

    async def serial(reader, writer):
        while await reader.readuntil(b"\r\n\r\n"):
            async with lock:
                await asyncio.sleep(0.025)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    base_url = f"http://127.0.0.1:{serve(serial)}"

    def probe(rate: float) -> Generator[Progress, None, Window]:
        given = Workload(base_url=base_url, steps=(Step(name="a", paths=("/",)),), rate_per_s=rate, duration_s=1.0, arrival="constant", timeout_s=1.5)
        measured = yield from run_window(given, "probe")
        return measured.with_(generator_ok=True)  # this machine may be busy; the rule has its own test

    result, _ = run(search_rate(probe, Slo(latency_p95_ms=150), start_per_s=10, max_per_s=160, probes_max=5))
    assert 10 <= result.rate_per_s <= 60
    assert result.bounded
    assert not result.probes[-1].ok or len(result.probes) == 5
