from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

from perfloop.cli import exits
from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.errors import CannotMeasure
from perfloop.model.base import Estimate
from perfloop.model.event import Event, PhaseStarted, RunningEstimate, Told
from perfloop.model.result import RunResult, SloCheck
from perfloop.model.verdict import Decision, Proof, Verdict, VerdictStatus

Events = Generator[Event, None, str]


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "PERFLOOP_NO_PROGRESS"):
        monkeypatch.delenv(name, raising=False)


def _events() -> Events:
    yield PhaseStarted(phase="baseline", detail="5 windows", left_s=130)
    for number in range(50):
        yield RunningEstimate(phase="baseline", requests=number, p95_s=Estimate(value=0.0412, low=0.03, high=0.05), left_s=100)
    yield Told(text="evil \x1b[2J name", level="warning")
    return "done"


def test_plain_progress_is_one_line_a_phase_and_few_estimates(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(_events(), Output()) == "done"
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert lines[0] == "baseline  5 windows  [2:10 left]"
    assert sum("p95 41.2 ms (30 to 50 ms)" in line for line in lines) == 1
    assert "\x1b" not in told.err


def test_ci_gets_phases_only_and_quiet_gets_warnings_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    follow(_events(), Output(quiet=True))
    assert capsys.readouterr().err.splitlines() == ["  ! evil \ufffd[2J name"]
    monkeypatch.setenv("CI", "true")
    follow(_events(), Output())
    assert "p95" not in capsys.readouterr().err


def test_the_first_interrupt_reaches_the_loop_and_later_ones_do_not_break_its_undo(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []

    def loop() -> Events:
        try:
            yield PhaseStarted(phase="prove")
            os.kill(os.getpid(), signal.SIGINT)
            yield PhaseStarted(phase="never")
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("undone")
        return "partial"

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert follow(loop(), Output()) == "partial"
        # what is left of the process is short; a late signal breaks neither it nor its exit code
        assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert done == ["undone"]
    told = capsys.readouterr().err
    assert told.count("still finishing the undo") == 2
    assert "never" not in told


def test_an_interrupt_between_two_events_reaches_the_loop_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Killing:
        def __init__(self, *_: Any) -> None: ...
        def show(self, _event: Event) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

        def say(self, *_: Any) -> None: ...
        def clear(self) -> None: ...

    monkeypatch.setattr("perfloop.cli.progress.Screen", Killing)

    def loop() -> Events:
        try:
            yield PhaseStarted(phase="prove")
        except KeyboardInterrupt:
            return "partial"
        return "whole"

    assert follow(loop(), Output()) == "partial"


def test_what_the_loop_does_not_handle_comes_out() -> None:
    def interrupted() -> Events:
        yield PhaseStarted(phase="prove")
        raise KeyboardInterrupt

    def failed() -> Events:
        yield PhaseStarted(phase="prove")
        raise CannotMeasure("the service is gone")

    with pytest.raises(KeyboardInterrupt):
        follow(interrupted(), Output())
    with pytest.raises(CannotMeasure):
        follow(failed(), Output())


def test_exit_codes_of_a_run(sample: RunResult) -> None:
    missed = sample.with_(slo_checks=(SloCheck(name="p95", bound=1, measured=2, unit="ms", ok=False),))
    unknown = sample.with_(slo_checks=(SloCheck(name="p95", bound=1, measured=None, unit="ms", ok=None),))
    stuck = sample.with_(tried=(sample.tried[0].with_(decision=Decision.STUCK),), state="interrupted")
    assert exits.of_run(sample) == 0
    assert exits.of_run(missed) == exits.of_run(sample.with_(ok=False)) == 1
    assert (exits.of_run(unknown), exits.of_run(unknown, strict=True)) == (0, 1)
    assert exits.of_run(sample.with_(state="failed")) == 3
    assert exits.of_run(sample.with_(state="interrupted")) == 130
    assert exits.of_run(stuck) == exits.of_run(sample.with_(commands=("DROP INDEX a",))) == 5


@pytest.mark.parametrize(("status", "wanted"), [("improved", 0), ("equivalent", 0), ("inconclusive", 0), ("regressed", 1), ("invalid", 3)])
def test_exit_codes_of_a_comparison(status: str, wanted: int) -> None:
    verdict = Verdict(status=VerdictStatus(status), metric="p95_s", proof=Proof.BEFORE_AFTER, pairs=1, round_s=5)
    assert exits.of_verdict(verdict) == wanted
    assert exits.of_verdict(verdict, strict=True) == (1 if status == "inconclusive" else wanted)


def test_progress_for_agents_is_one_object_a_line_with_the_fields_of_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(_events(), Output(progress="jsonl")) == "done"
    told = capsys.readouterr()
    assert told.out == ""
    lines = [json.loads(line) for line in told.err.splitlines()]
    assert len(lines) == 52
    assert all((line["agent"], line["status"], line["progress"]) == ("performance-engineer", "optimizing", {}) for line in lines)
    assert lines[1]["event"]["p95_s"]["value"] == 0.0412
    assert "\x1b" not in told.err
    follow(_events(), Output(progress="none"))
    only = capsys.readouterr().err.splitlines()
    assert len(only) == 1  # a warning stays
    assert "evil" in only[0]


def test_the_last_line_for_agents_is_the_progress_message_of_the_run(capsys: pytest.CaptureFixture[str], sample: RunResult) -> None:
    def work() -> Generator[Event, None, RunResult]:
        yield PhaseStarted(phase="baseline")
        return sample

    follow(work(), Output(progress="jsonl"))
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert last["progress"] == sample.progress["progress"]
    assert last["run_id"] == sample.run_id
