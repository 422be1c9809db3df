from __future__ import annotations

from typing import Any

import pytest

from perfloop.errors import ChangeRefused
from perfloop.load.run import Progress
from perfloop.loop import harm
from perfloop.model.run import StepSamples, Window
from perfloop.stats.histogram import Histogram


def histogram(seconds: float, count: int) -> Histogram:
    made = Histogram()
    for _ in range(count):
        made.record(seconds)
    return made


def default(seconds: float = 0.02, failed: int = 0) -> list[Window]:
    step = StepSamples(name="GET /", sent=200 + failed, ok=200, errors={"status_5xx": failed} if failed else {}, latency=histogram(seconds, 200).to_data())
    return [Window(label="baseline", started_at="", duration_s=4, rate_per_s=50, steps=(step,), lateness_p99_s=0, generator_ok=True)]


def seen(seconds: float, ok: int, errors: int = 0, sent: int = 0) -> Progress:
    second: Any = None
    return Progress(1.0, sent or ok + errors, ok, errors, histogram(seconds, ok), second, 1.0, {}, lambda: default()[0])


def watch(windows: list[Window] | None = None) -> harm.Watch:
    return harm.Watch(windows or default(), 50, lambda: ())


@pytest.mark.parametrize(
    ("progress", "why"),
    [
        (seen(0.02, 150), ""),
        (seen(0.035, 150), ""),
        (seen(0.05, 150), "p99"),
        (seen(0.05, 50), ""),  # too few for a p99
        (seen(0.02, 100, errors=6), "failed"),
        (seen(0.02, 100, errors=2), ""),
        (seen(0.02, 10, sent=70), "wait"),
    ],
)
def test_harm_is_errors_doubled_p99_or_no_answers(progress: Progress, why: str) -> None:
    found = watch().harm(progress)
    assert (why in found) if why else (found == "")


def test_errors_that_the_default_has_too_are_not_held_against_a_candidate() -> None:
    assert watch(default(failed=50)).harm(seen(0.02, 100, errors=15)) == ""


def test_only_rounds_with_the_candidate_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = watch()
    watching("proof-a", seen(0.5, 150))
    watching("default", seen(0.5, 150))
    with pytest.raises(ChangeRefused, match="stopped in flight"):
        watching("race-round", seen(0.5, 150))
    assert len(watching.stopped) == 1


def test_nine_tenths_of_the_memory_are_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harm.machine, "memory", lambda: {"MemTotal": 1000, "MemAvailable": 80})
    assert "92%" in harm.memory_harm(())
    monkeypatch.setattr(harm.machine, "memory", lambda: {"MemTotal": 1000, "MemAvailable": 800})
    monkeypatch.setattr(harm.cgroup, "memory", lambda _pid: harm.cgroup.Memory(1000, 950, 0, 0))
    assert "95%" in harm.memory_harm((1,))
    monkeypatch.setattr(harm.cgroup, "memory", lambda _pid: None)
    assert harm.memory_harm((1,)) == ""
