"""The rounds of a proof: pairs in random order, stolen ones repeated blindly, ended when they decide."""

from __future__ import annotations

from collections.abc import Generator
from math import exp
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from perfloop.loop.prove import FRESH_SEED, Switch, again, asked, rounds
from perfloop.model.config import MeasureConfig
from perfloop.model.event import Told
from perfloop.model.run import StepSamples, Window
from perfloop.model.target import Environment
from perfloop.model.verdict import Proof, Verdict, VerdictStatus
from perfloop.stats.histogram import Histogram
from perfloop.validate.question import Question


class Bench:
    """A meter without a service: levels by whether the change is on, and steal as told."""

    def __init__(self, ratio: float, stolen: dict[int, float] | None = None, noise_s: float = 0.02) -> None:
        self.config = SimpleNamespace(measure=MeasureConfig(settle_s=0, pairs_window_s=1))
        self.ratio, self.stolen, self.noise, self.noise_s = ratio, stolen or {}, Random(5), noise_s
        self.on, self.sent = False, []

    def window(self, label: str, rate_per_s: float, duration_s: float, seed: int = 1) -> Generator[Any, None, Window]:
        latency = Histogram()
        level = 0.1 * (self.ratio if self.on else 1.0) * exp(self.noise.gauss(0, self.noise_s))
        for _ in range(50):
            latency.record(level)
        share = self.stolen.get(len(self.sent), 0.0)
        self.sent.append((label, seed, self.on))
        step = StepSamples(name="GET /", sent=50, ok=50, bytes_in=5000, latency=latency.to_data())
        return (yield from self._window(label, rate_per_s, duration_s, step, share))

    def _window(self, label: str, rate_per_s: float, duration_s: float, step: StepSamples, share: float) -> Generator[Any, None, Window]:
        yield from ()
        return Window(label=label, started_at="2026-01-01T00:00:00Z", duration_s=duration_s, rate_per_s=rate_per_s, steps=(step,), steal_share=share)


def run(bench: Bench, question: Question) -> tuple[list[tuple[Window, Window]], list[Any]]:
    def turn(on: bool) -> None:
        bench.on = on

    events: list[Any] = []
    work = rounds(bench, Switch(lambda: turn(True), lambda: turn(False), lambda: None), question, 50.0, 7, is_on=False)  # type: ignore[arg-type]
    while True:
        try:
            events.append(next(work))
        except StopIteration as stop:
            return stop.value, events


QUESTION = Question(metric="mean_s", pairs_max=12)


def test_both_arms_of_a_pair_get_the_same_arrivals_and_the_right_state() -> None:
    bench = Bench(ratio=0.5)
    pairs, _ = run(bench, QUESTION)
    assert 3 <= len(pairs) < 12  # a large effect ends the rounds early
    for first, second in zip(bench.sent[::2], bench.sent[1::2], strict=True):
        assert first[1] == second[1]
        assert {first[0], second[0]} == {"proof-a", "proof-b"}
    assert all(on == (label == "proof-b") for label, _, on in bench.sent)
    assert len({bench.sent[index][0] for index in range(0, len(bench.sent), 2)}) == 2  # both orders
    assert bench.on  # it is left on, as a change that is proved


def test_a_pair_from_which_the_hypervisor_stole_is_repeated_whatever_it_says() -> None:
    bench = Bench(ratio=0.5, stolen={0: 0.4})
    pairs, events = run(bench, QUESTION)
    assert len(bench.sent) == 2 * len(pairs) + 2
    assert any(isinstance(event, Told) and "repeated" in event.text for event in events)


def test_repeats_are_bounded() -> None:
    bench = Bench(ratio=1.0, stolen=dict.fromkeys(range(1000), 0.5), noise_s=0.3)
    pairs, _ = run(bench, QUESTION)
    assert len(pairs) == 12
    assert len(bench.sent) == 2 * (12 + 3)


@pytest.mark.parametrize(("where", "strict"), [(Environment.PRODUCTION, True), (Environment.SANDBOX, False)])
def test_what_is_asked_is_fixed_by_configuration(where: Environment, strict: bool) -> None:
    question = asked("GET /", MeasureConfig(pairs=9, effect_min=0.03), where)
    assert (question.metric, question.pairs_max, question.effect_min, question.non_inferiority) == ("p95_s", 9, 0.03, strict)
    assert asked(None, MeasureConfig(), where).metric == "geomean_s"
    assert asked(None, MeasureConfig(metric="cpu_per_request"), where).metric == "cpu_per_request"
    assert asked(None, MeasureConfig(guards="harm"), where).non_inferiority is False


def repeated(bench: Bench, left_s: float = 600.0) -> Verdict:
    """An improvement in three pairs, asked for once more."""
    bench.left_s = left_s  # type: ignore[attr-defined]
    bench.config.measure = MeasureConfig(settle_s=0, pairs_window_s=1, confirm_pairs=2)
    improved = Verdict(status=VerdictStatus.IMPROVED, metric="mean_s of all requests", proof=Proof.TOGGLED, pairs=3, round_s=1.0)
    bench.on = True

    def turn(on: bool) -> None:
        bench.on = on

    work = again(bench, Switch(lambda: turn(True), lambda: turn(False), lambda: None), QUESTION, improved, 50.0, 7)  # type: ignore[arg-type]
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value


def test_an_improvement_is_repeated_on_rounds_that_did_not_decide_it() -> None:
    bench = Bench(ratio=0.8)
    verdict = repeated(bench)
    assert verdict.status == VerdictStatus.IMPROVED
    assert verdict.fresh_ratio
    assert verdict.fresh_ratio.n == 2
    assert 0.7 < verdict.fresh_ratio.value < 0.9
    assert {seed for _, seed, _ in bench.sent} == {7 + FRESH_SEED, 8 + FRESH_SEED}
    assert bench.on


def test_one_that_does_not_show_again_is_none() -> None:
    verdict = repeated(Bench(ratio=1.0, noise_s=0.001))
    assert verdict.status == VerdictStatus.INCONCLUSIVE
    assert "did not show again" in verdict.reason


def test_without_time_for_fresh_rounds_the_verdict_says_so() -> None:
    bench = Bench(ratio=1.0)
    verdict = repeated(bench, left_s=10)
    assert verdict.status == VerdictStatus.IMPROVED
    assert "not repeated" in verdict.reason
    assert not bench.sent
