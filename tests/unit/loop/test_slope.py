"""The delay slope against models of services, and once the whole way through a tap that is a change of a real service."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from perfloop.loop import slope
from perfloop.loop.confirm import ConfirmTools, confirm
from perfloop.model.finding import Confidence, Experiment, Finding
from perfloop.model.journey import Step
from perfloop.model.run import HistogramData, StepSamples, Window
from perfloop.stats.histogram import bucket_of
from perfloop.wire.client import TapCounters
from services import Postgres
from services.tapped import tapped

STEP = Step(name="list", paths=("/list",))
#: (delay in seconds) → (latency, round trips, connections at once)
Model = Callable[[float], tuple[float, int, int]]


class Tapped:
    """A service behind a tap, by a model; time does not pass."""

    pool_max: int | None = 10

    def __init__(self, model: Model) -> None:
        self.model, self.delay_s, self.trips, self.delayed_s, self.busy = model, 0.0, 0, 0.0, 0
        self.delays: list[float] = []

    def counters(self) -> TapCounters:
        seen = TapCounters(1, 2, 0, 0, 0, self.trips, self.delay_s * 1000, (), (), self.delayed_s, 0, self.busy)
        self.busy = 0
        return seen

    def set_delay(self, delay_ms: float) -> TapCounters:
        self.delay_s = delay_ms / 1000
        self.delays.append(delay_ms)
        return self.counters()

    def alone(self, step: Step, requests: int, longest_s: float) -> StepSamples:
        assert 0 < requests <= 30
        latency, trips, busy = self.model(self.delay_s)
        self.trips += trips * requests
        self.delayed_s += trips * requests * (self.delay_s + 1e-4)
        self.busy = max(self.busy, busy)
        data = HistogramData(buckets=(bucket_of(latency),), counts=(requests,), sum_s=latency * requests, max_s=latency)
        return StepSamples(name=step.name, sent=requests, ok=requests, errors={}, latency=data)


def finding(trips: float) -> Finding:
    experiment = Experiment(kind="delay-slope", params={"subject": "list", "step": "list", "peer": "postgresql", "trips": trips}, refutes="it does not grow")
    return Finding(rule="n-plus-one", confidence=Confidence.LIKELY, title="a suspect", experiment=experiment)


def run(service: Tapped, trips: float) -> tuple[bool | None, float | None, str]:
    def window(*_: object) -> Window:
        raise AssertionError("no other load")

    tools = ConfirmTools((STEP,), 10.0, solo=None, window=window, memory=lambda: 0, tap=lambda peer, address: service, alone=service.alone)  # type: ignore[arg-type]
    result = confirm(finding(trips), tools)
    assert service.delays[-1] == 0
    assert max(service.delays) <= slope.DELAY_MAX_MS
    return result.supports, result.estimate.value if result.estimate else None, result.note


@pytest.mark.parametrize("trips", [1, 5, 20, 50])
def test_sequential_round_trips_are_counted(trips: int) -> None:
    supports, value, _ = run(Tapped(lambda delay: (0.005 + trips * delay, trips, 1)), float(trips))
    assert supports is True
    assert value == pytest.approx(trips, rel=0.01)


@pytest.mark.parametrize(("path", "claim"), [(1, 20.0), (0, 20.0), (4, 20.0), (0, 0.0)])
def test_round_trips_beside_or_off_the_path_refute_the_claim(path: int, claim: float) -> None:
    supports, value, _ = run(Tapped(lambda delay: (0.005 + path * delay, 20, 1)), claim)
    assert supports is False
    assert value == pytest.approx(path, abs=0.05)


def test_a_slope_never_proves_that_a_call_is_slow() -> None:
    supports, value, note = run(Tapped(lambda delay: (0.3 + delay, 1, 1)), 0.0)
    assert supports is None
    assert value == pytest.approx(1, rel=0.01)
    assert "whether it is slow" in note


def test_a_pool_more_than_half_used_confirms_nothing() -> None:
    supports, _, note = run(Tapped(lambda delay: (0.005 + 20 * delay, 20, 8)), 20.0)
    assert supports is None
    assert "8 of 10 connections" in note


def test_no_round_trips_is_off_the_path() -> None:
    assert run(Tapped(lambda delay: (0.005, 0, 1)), 20.0)[0] is False


def test_by_a_change_that_is_undone(project: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configuration → tap → statements counted → the old address, and the audit log tells both."""
    from perfloop.loop import prepare
    from perfloop.loop.experiments import tools_for
    from perfloop.loop.look import access
    from perfloop.loop.opening import open_session
    from perfloop.loop.tapping import Taps
    from perfloop.model.evidence import Evidence
    from perfloop.model.requests import CheckRequest
    from perfloop.store.audit import AuditLog

    monkeypatch.setattr(slope, "DELAY_SLOPE_MAX_S", 3.0)
    monkeypatch.setattr(slope, "DELAY_MIN_MS", 1.0)
    with psycopg.connect(postgres.admin, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS desk")
        connection.execute("CREATE ROLE desk LOGIN PASSWORD 'hush'")
    with tapped(project / "desk", postgres, postgres.dsn("desk", "hush")) as service:
        before, pid = service.file.read_bytes(), service.pid
        config = service.folder / "perfloop.toml"
        config.write_text(
            f'[target]\nurl = "{service.url}"\nenvironment = "sandbox"\nhealth_path = "/health"\nrestart_command = "{service.restart_command}"\n'
            '[[target.taps]]\npeer = "postgresql"\nfile = "app.toml"\nkey = "database.url"\n[changes]\nallow = "safe"\n[[journeys]]\npath = "/serial?n=4"\n'
        )
        session = open_session(CheckRequest(config=str(config), no_input=True), "check", service.folder)
        list(prepare.understand(session))
        wanted = finding(4.0)
        assert wanted.experiment is not None
        params = {**wanted.experiment.params, "step": "GET /serial?n=4"}
        with Taps(session) as taps:
            tools = tools_for(session, access(session), Evidence(target=session.meter.target), taps)
            result = confirm(wanted.with_(experiment=wanted.experiment.with_(params=params)), tools)
            assert service.file.read_bytes() != before
        assert "4.0 times per request" in result.note
        assert "SELECT g FROM generate_series(?, ?) g WHERE g <> $1" in result.note
        assert service.file.read_bytes() == before
        assert service.pid != pid
        assert session.meter.pids == (service.pid,)
        assert service.ok()
        assert not [
            one for one in psutil.process_iter(["cmdline"]) if str(project) in " ".join(one.info["cmdline"] or ()) and "wire.tap" in str(one.info["cmdline"])
        ]
        outcomes = [(event.operation, event.outcome) for event in AuditLog().entries() if event.operation in ("experiment_tap", "rollback")]
        assert sorted(outcomes) == [
            ("experiment_tap", "in_progress"),
            ("experiment_tap", "rolled_back"),
            ("rollback", "in_progress"),
            ("rollback", "rolled_back"),
        ]
        assert "hush" not in "".join(file.read_text() for file in Path(os.environ["PERFLOOP_STATE_DIR"]).rglob("*.jsonl"))
