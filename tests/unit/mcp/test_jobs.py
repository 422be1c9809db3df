"""Long work for agents: bounded waits, one run at a time, and an undo when the client has gone."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from perfloop.errors import CannotMeasure, UsageError
from perfloop.mcp import brief
from perfloop.mcp.jobs import Jobs
from perfloop.model.event import Event, PhaseStarted, Told


def _work(go: threading.Event, ended: list[str]) -> Generator[Event, None, str]:
    yield PhaseStarted(phase="baseline", left_s=9)
    try:
        while not go.wait(0.02):
            yield Told(text="measuring")
    except KeyboardInterrupt:
        ended.append("undone")
        return "partial"
    return "whole"


def test_a_job_is_asked_for_again_until_it_is_over() -> None:
    jobs, go = Jobs(), threading.Event()
    job = jobs.start("a measurement", lambda: _work(go, []))
    assert not job.wait(0.05)
    running = brief.job(jobs.get(job.id))
    assert running["state"] == "running"
    assert running["phase"] == "baseline"
    assert job.id in running["next"]
    go.set()
    assert job.wait(20)
    assert job.result == "whole"
    assert brief.job(job)["state"] == "done"


def test_a_second_run_is_refused_while_one_runs() -> None:
    jobs, go = Jobs(), threading.Event()
    job = jobs.start("a measurement", lambda: _work(go, []))
    with pytest.raises(UsageError, match="job-1 is still running"):
        jobs.start("another", lambda: _work(go, []))
    go.set()
    job.wait(20)
    assert jobs.start("another", lambda: _work(go, [])).wait(20)
    with pytest.raises(UsageError, match="no job 'job-9'"):
        jobs.get("job-9")


def test_when_the_client_has_gone_what_is_open_is_undone_first() -> None:
    jobs, ended = Jobs(), []
    job = jobs.start("a change", lambda: _work(threading.Event(), ended))
    jobs.close()
    assert job.state == "done"  # a work that returns a run in state interrupted is told as stopped
    assert ended == ["undone"]
    assert job.result == "partial"


def test_an_error_ends_the_job_and_is_kept() -> None:
    def broken() -> Generator[Event, None, None]:
        yield Told(text="begun")
        raise CannotMeasure("the service is down", fix="start it")

    job = Jobs().start("a measurement", broken)
    assert job.wait(20)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.what == "the service is down"
