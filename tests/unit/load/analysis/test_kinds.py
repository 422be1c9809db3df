"""The answer of each kind, on seconds and levels whose truth is known."""

from __future__ import annotations

import random

import pytest

from perfloop.load.analysis.scalability import judge_scalability, points
from perfloop.load.analysis.soak import judge_soak
from perfloop.load.analysis.spike import judge_spike
from perfloop.load.analysis.stress import judge_stress
from perfloop.load.analysis.volume import judge_volume
from perfloop.model.loadtest import Level, LoadTest, Reading
from perfloop.model.result import Slo
from perfloop.model.run import RateProbe, RateSearch, SecondSamples, StepSamples, Window
from perfloop.stats.histogram import Histogram


def second(at_s: float, p95_s: float, ok: int = 100, failed: int = 0) -> SecondSamples:
    histogram = Histogram()
    for _ in range(ok):
        histogram.record(p95_s)
    return SecondSamples(elapsed_s=at_s, sent=ok + failed, ok=ok, errors={"timeout": failed} if failed else {}, latency=histogram.to_data())


def window(seconds: list[SecondSamples], rate: float = 100, **words) -> Window:
    sent, ok = sum(s.sent for s in seconds), sum(s.ok for s in seconds)
    step = StepSamples(
        name="GET /", sent=sent, ok=ok, errors={"timeout": sent - ok} if sent > ok else {}, latency=seconds[0].latency if seconds else Histogram().to_data()
    )
    return Window(
        **{"label": "w", "started_at": "", "duration_s": float(len(seconds)), "rate_per_s": rate, "steps": (step,), "per_second": tuple(seconds), **words}
    )


def measure(test: LoadTest, name: str):
    return next(m for m in test.measures if m.name.startswith(name))


def spiked(recovery_s: int, deep_s: float = 0.8, lost: int = 0, tail: int = 20) -> Window:
    rng = random.Random(1)
    calm = [second(i + 1, 0.020 * rng.uniform(0.9, 1.1)) for i in range(10)]
    spike = [second(11 + i, deep_s, 300, lost) for i in range(5)]
    slow = [second(16 + i, deep_s / 2) for i in range(recovery_s)]
    after = [second(16 + recovery_s + i, 0.020 * rng.uniform(0.9, 1.1)) for i in range(tail)]
    return window(calm + spike + slow + after)


@pytest.mark.parametrize("recovery_s", [0, 1, 4, 9])
def test_spike_measures_depth_and_recovery(recovery_s):
    test = judge_spike(spiked(recovery_s), 10, 15, 5)
    assert test.ok is True
    assert measure(test, "depth").value.value == pytest.approx(0.8, rel=0.01)
    assert measure(test, "recovery").value.value == pytest.approx(recovery_s, abs=0.01)


def test_spike_that_takes_too_long_or_loses_requests_or_never_ends():
    assert judge_spike(spiked(14), 10, 15, 5, recovery_max_s=10).ok is False
    assert judge_spike(spiked(2, lost=30), 10, 15, 5).ok is False
    never = judge_spike(spiked(30, tail=0), 10, 15, 5)
    assert never.ok is False
    assert "not back within" in never.answer
    assert judge_spike(spiked(5, tail=0), 10, 15, 5).ok is None  # watched for less than it may take


def test_spike_that_is_absorbed():
    test = judge_spike(spiked(0, deep_s=0.022), 10, 15, 5)
    assert test.ok is True
    assert "stayed" in test.answer


def test_spike_needs_a_before_and_an_after_and_a_generator_in_time():
    assert judge_spike(window([second(1, 0.02), second(2, 0.4)]), 1, 2, 5).ok is None
    assert judge_spike(spiked(2).with_(generator_ok=False), 10, 15, 5).ok is None


def soaked(seconds: int = 240, latency=lambda i: 0.02, **series) -> LoadTest:
    rng = random.Random(3)
    load = window([second(i + 1, latency(i) * rng.uniform(0.9, 1.1)) for i in range(seconds)])
    readings = [Reading(at_s=float(i), name=name, value=value(i, rng)) for name, value in series.items() for i in range(seconds)]
    return judge_soak([load], readings)


MIB = 2**20


def test_soak_without_drift():
    test = soaked(memory_bytes=lambda i, rng: 100 * MIB + rng.uniform(0, 0.2) * MIB, threads=lambda i, rng: 12)
    assert test.ok is True, test
    assert "no drift" in test.answer


def test_soak_with_a_leak():
    test = soaked(memory_bytes=lambda i, rng: 100 * MIB + i * 0.1 * MIB + rng.uniform(0, 0.5) * MIB)
    assert test.ok is False
    drift = measure(test, "drift of memory").value
    assert drift.low < 0.1 * MIB * 3600 < drift.high
    assert "leak" in test.answer


def test_soak_with_a_sawtooth_over_a_leak_and_one_without():
    assert soaked(memory_bytes=lambda i, rng: 100 * MIB + i * 0.05 * MIB + (i % 7) * MIB).ok is False
    assert soaked(memory_bytes=lambda i, rng: 100 * MIB + (i % 7) * MIB).ok is True


def test_a_heap_that_settles_is_no_leak():
    test = soaked(memory_bytes=lambda i, rng: 150 * MIB - 50 * MIB * 0.97**i + rng.uniform(0, 0.1) * MIB)
    assert test.ok is True, test
    assert soaked(memory_bytes=lambda i, rng: (100 if i < 100 else 130) * MIB + rng.uniform(0, 0.1) * MIB).ok is not False  # one step


def test_soak_with_connections_that_pile_up_and_latency_that_creeps():
    assert measure(soaked(connections=lambda i, rng: 20 + i // 5), "drift of connections").ok is False
    test = soaked(latency=lambda i: 0.02 + i * 0.0001)
    assert test.ok is False
    assert "p95 grew from" in test.answer


def test_a_soak_that_is_too_short_says_so():
    test = soaked(seconds=6, memory_bytes=lambda i, rng: 100 * MIB)
    assert test.ok is None


def sized(cost) -> list[Level]:
    rng = random.Random(5)
    return [Level(x=n, throughput_per_s=10, mean_s=cost(n) * rng.uniform(0.98, 1.02)) for n in (1_000, 3_000, 10_000, 30_000) for _ in range(3)]


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("constant", [0.0, 0.003])
def test_volume_finds_the_exponent_beside_a_constant_part(exponent, constant):
    test = judge_volume(sized(lambda n: constant + 0.010 * (n / 10_000) ** exponent))
    found = measure(test, "exponent").value
    assert found.low - 0.02 <= exponent <= found.high + 0.02
    assert test.ok is not (exponent > 1.2)


def test_volume_of_a_cost_that_does_not_grow():
    test = judge_volume(sized(lambda n: 0.004))
    assert test.ok is True
    assert "does not grow" in test.answer


def test_volume_needs_enough_sizes():
    assert judge_volume(sized(lambda n: 0.01)[:6]).ok is None
    assert judge_volume([]).ok is None


def grown(throughput, p95=lambda n: 0.01) -> list[Level]:
    rng = random.Random(7)
    return [Level(x=n, throughput_per_s=throughput(n) * rng.uniform(0.99, 1.01), p95_s=p95(n), mean_s=0.01) for n in (1, 2, 4, 8, 16, 32) for _ in range(2)]


def test_scalability_that_grows_flattens_and_falls():
    linear = judge_scalability(grown(lambda n: 100 * n), Slo())
    assert linear.ok is True
    assert "grows up to 32" in linear.answer
    flat = judge_scalability(grown(lambda n: min(100 * n, 800)), Slo())
    assert flat.ok is True
    assert "hardly grows beyond 8" in flat.answer
    falling = judge_scalability(grown(lambda n: 100 * n / (1 + 0.05 * (n - 1) + 0.01 * n * (n - 1))), Slo())
    assert falling.ok is False
    assert "falls to" in falling.answer
    assert len(points(grown(lambda n: 100 * n))) == 12


def test_scalability_against_an_slo():
    test = judge_scalability(grown(lambda n: 100 * n, p95=lambda n: 0.01 * n), Slo(latency_p95_ms=100))
    assert measure(test, "most users").value.value == 8
    assert judge_scalability(grown(lambda n: 100 * n, p95=lambda n: 5.0), Slo(latency_p95_ms=100)).ok is False


def test_stress_says_what_gave_way():
    probes = tuple(
        RateProbe(rate_per_s=r, achieved_per_s=a, p95_s=p, error_rate=e, ok=o) for r, a, p, e, o in ((50, 50, 0.02, 0, True), (100, 80, 0.9, 0.3, False))
    )
    search = RateSearch(rate_per_s=50, slo="p95 ≤ 100 ms", probes=probes)
    good = window([second(1, 0.02)], rate=50, achieved_per_s=50.0)
    bad = window([second(1, 0.9, 70, 30)], rate=100, achieved_per_s=80.0, cpu_seconds=0.99)
    test = judge_stress(search, {50: good, 100: bad}, Slo(latency_p95_ms=100), None, 1.0)
    assert test.ok is True
    assert [text.split(":")[0] for text in test.gave_way] == ["errors", "throughput", "latency", "CPU"]
    assert "used up" in test.gave_way[-1]
    assert judge_stress(search, {50: good, 100: bad}, Slo(latency_p95_ms=100), 60, 1.0).ok is False
    assert judge_stress(search, {50: good, 100: bad}, Slo(latency_p95_ms=100), 40, 1.0).ok is True
    assert judge_stress(search.with_(bounded=False), {50: good}, Slo(), None, None).ok is None
