"""Verdicts on pairs of rounds whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from random import Random

import pytest

from perfloop.model.run import StepSamples, Window
from perfloop.model.verdict import Proof, Verdict, VerdictStatus
from perfloop.stats.histogram import Histogram
from perfloop.validate.compare import aa_reach, compare, decided, guards_ok, pairs_needed
from perfloop.validate.guards import alarm
from perfloop.validate.question import Question

SLOW, FAST = "GET /orders", "GET /ping"
Pairs = list[tuple[Window, Window]]


def step(name: str, level_s: float, noise: Random, n: int = 100, failed: int = 0, size: int = 1000) -> StepSamples:
    latency = Histogram()
    for _ in range(n):
        latency.record(level_s * exp(noise.gauss(0, 0.2)))
    return StepSamples(name=name, sent=n + failed, ok=n, errors={"status_5xx": failed} if failed else {}, bytes_in=n * size, latency=latency.to_data())


def window(*steps: StepSamples, rate: float = 50.0, cpu: float = 1.0, **more: object) -> Window:
    return Window(label="proof", started_at="2026-01-01T00:00:00Z", duration_s=4.0, rate_per_s=rate, steps=steps, cpu_seconds=cpu).with_(**more)  # type: ignore[no-any-return]


def pairs(ratio: float, n: int, *, noise_s: float = 0.03, seed: int = 1, other: float = 1.0, cpu: float = 1.0, failed: int = 0, size: int = 1000) -> Pairs:
    """n pairs in which the slow step takes ``ratio`` times as long with the change, the fast one ``other`` times."""
    noise = Random(seed)
    made: Pairs = []
    for _ in range(n):
        luck = [exp(noise.gauss(0, noise_s)) for _ in range(2)]
        before = window(step(SLOW, 0.2 * luck[0], noise), step(FAST, 0.02 * luck[0], noise))
        after = window(step(SLOW, 0.2 * ratio * luck[1], noise, failed=failed, size=size), step(FAST, 0.02 * other * luck[1], noise), cpu=cpu)
        made.append((before, after))
    return made


def judge(made: Sequence[tuple[Window, Window]], *, name: str | None = SLOW, **more: object) -> Verdict:
    return compare(made, Question(step=name, **more), Proof.TOGGLED)  # type: ignore[arg-type]


def test_a_large_improvement_is_found_with_its_interval_and_levels() -> None:
    verdict = judge(pairs(0.3, 4))
    assert verdict.status == VerdictStatus.IMPROVED
    assert verdict.ratio
    assert verdict.before
    assert verdict.after
    assert verdict.difference
    assert verdict.ratio.low is not None
    assert verdict.ratio.high is not None
    assert verdict.ratio.low < 0.3 < verdict.ratio.high < 1
    assert verdict.after.value / verdict.before.value == pytest.approx(0.3, rel=0.1)
    assert verdict.difference.value == pytest.approx(verdict.after.value - verdict.before.value, rel=0.1)
    assert verdict.pairs == len(verdict.log_ratios) == 4
    assert verdict.metric == "p95_s of GET /orders"
    assert verdict.proof == Proof.TOGGLED
    assert guards_ok(verdict)


def test_a_regression_is_called_one() -> None:
    assert judge(pairs(2.0, 4)).status == VerdictStatus.REGRESSED


def test_no_difference_is_equivalent_after_enough_pairs_and_inconclusive_before() -> None:
    assert judge(pairs(1.0, 30, noise_s=0.01), effect_min=0.1).status == VerdictStatus.EQUIVALENT
    few = judge(pairs(1.0, 4, noise_s=0.2))
    assert few.status == VerdictStatus.INCONCLUSIVE
    assert few.detectable_ratio is not None
    assert "pairs would be needed" in few.reason


def test_a_real_but_tiny_difference_is_not_an_improvement() -> None:
    verdict = judge(pairs(0.97, 60, noise_s=0.01), effect_min=0.05)
    assert verdict.ratio
    assert verdict.ratio.high is not None
    assert verdict.ratio.high < 1
    assert verdict.status in (VerdictStatus.INCONCLUSIVE, VerdictStatus.EQUIVALENT)


def test_without_a_change_it_is_hardly_ever_an_improvement_although_it_looks_after_every_pair() -> None:
    claims = 0
    for seed in range(40):
        made = pairs(1.0, 8, noise_s=0.1, seed=seed)
        for n in range(3, 9):
            if decided(made[:n], Question(step=SLOW)):
                claims += judge(made[:n]).status != VerdictStatus.EQUIVALENT
                break
    assert claims <= 4


def test_deciding_needs_three_pairs_and_agrees_with_the_verdict() -> None:
    made = pairs(0.3, 4)
    assert not decided(made[:2], Question(step=SLOW))
    assert decided(made, Question(step=SLOW))
    assert judge(made[:2]).status == VerdictStatus.INCONCLUSIVE


def test_another_step_that_got_slower_breaks_its_guard() -> None:
    verdict = judge(pairs(0.3, 4, other=2.0))
    assert verdict.status == VerdictStatus.IMPROVED
    assert not guards_ok(verdict)
    assert "p95 of GET /ping" in [guard.metric for guard in verdict.guards if not guard.ok]


def test_cpu_errors_and_shorter_answers_break_their_guards() -> None:
    assert "CPU per request" in [guard.metric for guard in judge(pairs(0.3, 4, cpu=2.0)).guards if not guard.ok]
    assert "error rate" in [guard.metric for guard in judge(pairs(0.3, 4, failed=20)).guards if not guard.ok]
    assert "bytes per answer of GET /orders" in [guard.metric for guard in judge(pairs(0.3, 4, size=10)).guards if not guard.ok]


def test_a_rise_of_less_than_a_millisecond_is_no_harm() -> None:
    noise = Random(5)
    made = [(window(step(SLOW, 0.2, noise), step(FAST, 0.0003, noise)), window(step(SLOW, 0.06, noise), step(FAST, 0.0008, noise))) for _ in range(4)]
    assert guards_ok(judge(made))


def test_an_unchanged_pair_seldom_breaks_a_guard() -> None:
    broken = sum(not guards_ok(judge(pairs(1.0, 4, noise_s=0.1, seed=seed))) for seed in range(60))
    assert broken <= 6


def test_all_requests_together_and_cpu_can_be_the_metric() -> None:
    assert judge(pairs(0.3, 4, other=0.3), name=None).status == VerdictStatus.IMPROVED
    noise = Random(9)
    made = [(window(step(SLOW, 0.1, noise)), window(step(SLOW, 0.1, noise), cpu=0.5 * exp(noise.gauss(0, 0.02)))) for _ in range(4)]
    verdict = judge(made, name=None, metric="cpu_per_request")
    assert verdict.status == VerdictStatus.IMPROVED
    assert verdict.before
    assert verdict.before.value == pytest.approx(0.01)


def test_rounds_that_cannot_be_compared_give_no_verdict() -> None:
    good = pairs(0.3, 4)
    a, b = good[0]
    for bad, reason in (
        ((a.with_(generator_ok=False), b), ""),  # one of four: left out
        ((a, b.with_(rate_per_s=60.0)), "different rates"),
        ((a.with_(stopped_early="too many errors"), b), "too many errors"),
        ((window(step(SLOW, 0.2, Random(1), n=5)), b), "at least 10"),
    ):
        verdict = judge([bad, *good[1:]])
        if reason:
            assert verdict.status == VerdictStatus.INVALID
            assert reason in verdict.reason
            assert verdict.ratio is None
        else:
            assert verdict.pairs == 3
            assert "left out" in verdict.reason
    assert judge([(a.with_(generator_ok=False), b), (a, b.with_(generator_ok=False)), *good[2:]]).status == VerdictStatus.INVALID
    assert judge([]).status == VerdictStatus.INVALID
    assert judge([(a, window(cpu=1.0)) for _ in range(4)]).status == VerdictStatus.INVALID


def test_a_change_that_breaks_the_service_is_a_regression_at_once() -> None:
    broken = [(a, b.with_(stopped_early="52 of 60 failed")) for a, b in pairs(0.3, 1)]
    assert decided(broken, Question(step=SLOW))
    verdict = judge(broken)
    assert verdict.status == VerdictStatus.REGRESSED
    assert "52 of 60" in verdict.reason


def test_the_noise_of_a_baseline_says_what_could_be_found() -> None:
    def baseline(spread: float) -> list[Window]:
        noise = Random(4)
        return [window(step(SLOW, 0.2 * exp(noise.gauss(0, spread)), noise, n=400)) for _ in range(6)]

    question = Question(step=SLOW, pairs_max=8)
    calm, noisy = aa_reach(baseline(0.01), question), aa_reach(baseline(0.3), question)
    assert calm
    assert noisy
    assert 0 < calm.effect < noisy.effect < 1
    assert aa_reach(baseline(0.01)[:2], question) is None
    assert aa_reach(baseline(0.01), question, pairs=2) is None  # two pairs prove nothing
    needed = pairs_needed(calm.deviation, -log(1 - calm.effect) * 1.001, question)
    assert needed
    assert needed <= 8


def test_where_non_inferiority_is_asked_for_a_guard_that_shows_nothing_is_not_enough() -> None:
    noise = Random(6)
    slower = (0.85, 1.25, 0.95, 1.15)  # of the other step: a little worse on average, and nothing is sure
    made = [
        (window(step(SLOW, 0.2, noise, n=900), step(FAST, 0.02, noise, n=900)), window(step(SLOW, 0.06, noise, n=900), step(FAST, 0.02 * much, noise, n=900)))
        for much in slower
    ]
    assert guards_ok(judge(made))
    asked = judge(made, non_inferiority=True)
    assert asked.status == VerdictStatus.IMPROVED
    assert "p95 of GET /ping" in [guard.metric for guard in asked.guards if not guard.ok]
    assert not decided(made, Question(step=SLOW, non_inferiority=True))
    calm = pairs(0.3, 4, noise_s=0.01)
    assert guards_ok(judge(calm, non_inferiority=True))
    assert decided(calm, Question(step=SLOW, non_inferiority=True))


def test_harm_that_is_certain_ends_the_rounds_before_the_metric_decides() -> None:
    noise = Random(3)
    made = [(window(step(SLOW, 0.2, noise), step(FAST, 0.02, noise)), window(step(SLOW, 0.2 * 0.97, noise), step(FAST, 0.2, noise), cpu=3.0)) for _ in range(6)]
    question = Question(step=SLOW, pairs_max=30)
    assert decided(made, question)
    verdict = compare(made, question, Proof.TOGGLED)
    assert not guards_ok(verdict)


def test_an_unchanged_service_hardly_ever_raises_the_alarm_although_it_is_asked_after_every_pair() -> None:
    alarms = 0
    for seed in range(20):
        made = pairs(1.0, 12, noise_s=0.1, seed=seed)
        alarms += any(alarm(made[:n], Question(step=SLOW, pairs_max=12)) for n in (3, 6, 9, 12))
    assert alarms <= 3


def test_a_long_proof_finds_a_small_effect_in_bursts_of_noise() -> None:
    noise = Random(8)

    def level_s(base: float) -> float:
        return base * exp(noise.gauss(0, 0.1 if noise.random() < 0.1 else 0.01))

    made = [(window(step(SLOW, level_s(0.2), noise, n=900)), window(step(SLOW, level_s(0.21), noise, n=900))) for _ in range(40)]
    verdict = judge(made, pairs_max=60, effect_min=0.02, metric="mean_s")
    assert verdict.status == VerdictStatus.REGRESSED
    assert verdict.ratio
    assert verdict.ratio.value == pytest.approx(1.05, abs=0.02)


def test_memory_near_its_limit_with_the_change_breaks_its_guard_and_stops_the_rounds() -> None:
    held = [(a.with_(memory_bytes=400, memory_limit_bytes=1000), b.with_(memory_bytes=950, memory_limit_bytes=1000)) for a, b in pairs(0.3, 4)]
    assert not guards_ok(judge(held))
    assert decided(held[:3], Question(step=SLOW))
    roomy = [(a, b.with_(memory_bytes=850)) for a, b in held]
    assert guards_ok(judge(roomy))
    full_before = [(a.with_(memory_bytes=940), b) for a, b in held]
    assert guards_ok(judge(full_before))


@pytest.mark.parametrize("factors", [(1, 1.1, 3, 3.2), (4, 4.2, 1, 1.1)])
def test_a_service_that_drifts_by_more_than_twice_is_in_no_state_to_be_judged(factors: tuple[float, ...]) -> None:
    noise = Random(2)
    made = [(window(step(SLOW, 0.2 * factor, noise)), window(step(SLOW, 0.1 * factor, noise))) for factor in factors]
    verdict = judge(made)
    assert verdict.status == VerdictStatus.INVALID
    assert "drifted" in verdict.reason


def test_a_drift_that_pairs_cancel_is_no_obstacle() -> None:
    noise = Random(2)
    made = [(window(step(SLOW, 0.2 * factor, noise)), window(step(SLOW, 0.06 * factor, noise))) for factor in (1, 1.1, 1.3, 1.4)]
    assert judge(made).status == VerdictStatus.IMPROVED
