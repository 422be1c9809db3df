"""Experiments against small models of services: what each supports, refutes and leaves open."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from perfloop.errors import CannotMeasure
from perfloop.loop.confirm import ConfirmTools, confirm, confirm_all
from perfloop.loop.sweep import Swept, judge_time, judge_trips, knobs, parameters_of
from perfloop.model.event import Event
from perfloop.model.evidence import ExperimentResult, PeerTraffic, SocketsObservation, SoloObservation
from perfloop.model.finding import Confidence, Experiment, Finding
from perfloop.model.journey import Step
from perfloop.model.run import HistogramData, StepSamples, Window
from perfloop.stats.histogram import bucket_of
from perfloop.store.audit import AuditLog

LIST, OK = Step(name="list", paths=("/list?limit=40&page=2",)), Step(name="ok", paths=("/ok",))
Model = Callable[[str], tuple[float, float]]  # path → (latency, database round trips); a negative latency is a refusal


def samples(name: str, latencies: list[float], refused: int = 0) -> StepSamples:
    counts: dict[int, int] = {}
    for latency in latencies:
        counts[bucket_of(latency)] = counts.get(bucket_of(latency), 0) + 1
    data = HistogramData(buckets=tuple(counts), counts=tuple(counts.values()), sum_s=sum(latencies), max_s=max(latencies, default=0.0))
    return StepSamples(name=name, sent=len(latencies) + refused, ok=len(latencies), errors={"status_4xx": refused} if refused else {}, latency=data)


class Service:
    """Answers by a model, and counts what it was asked."""

    def __init__(self, model: Model, beside: float = 0.0, leak: float = 0.0, what_if: tuple[float, float, str] | Exception | None = None) -> None:
        self.model, self.beside, self.leak, self.rss, self.requests, self.planned = model, beside, leak, 1e8, 0, what_if

    def solo(self, step: Step, requests_max: int, duration_max_s: float) -> SoloObservation:
        assert 0 < duration_max_s <= 8
        answers = [self.model(step.paths[number % len(step.paths)]) for number in range(requests_max)]
        self.requests += requests_max
        good = [latency for latency, _ in answers if latency >= 0]
        peer = PeerTraffic(host="db", port=1, kind="postgresql", connections=1, round_trips=round(sum(trips for _, trips in answers)))
        sockets = SocketsObservation(window_s=1, samples=1, peers=(peer,))
        return SoloObservation(step=step.name, window_s=1, requests=requests_max, samples=samples(step.name, good, requests_max - len(good)), sockets=sockets)

    def window(self, steps: tuple[Step, ...], rate_per_s: float, duration_s: float) -> Window:
        count = round(rate_per_s * duration_s / len(steps))
        self.requests += count * len(steps)
        self.rss += self.leak * count * len(steps)
        made = tuple(samples(step.name, [self.model(step.paths[0])[0] + self.beside] * count) for step in steps)
        return Window(label="x", started_at="", duration_s=duration_s, rate_per_s=rate_per_s, steps=made)

    def what_if(self, query: str, ddl: str) -> tuple[float, float, str]:
        assert query
        assert ddl
        if isinstance(self.planned, Exception):
            raise self.planned
        assert self.planned is not None
        return self.planned

    def tools(self, *steps: Step, **more: Any) -> ConfirmTools:
        return ConfirmTools(
            steps=steps or (LIST, OK), rate_per_s=20.0, solo=self.solo, window=self.window, memory=lambda: int(self.rss), what_if=self.what_if, **more
        )


def finding(rule: str, kind: str, **params: Any) -> Finding:
    experiment = Experiment(kind=kind, params={"subject": "here", **params}, refutes="if not, this is not it")
    return Finding(rule=rule, confidence=Confidence.LIKELY, title="a suspect", experiment=experiment)


def limit_of(path: str) -> int:
    return int(parse_qs(urlsplit(path).query).get("limit", ["40"])[0])


@pytest.mark.parametrize(("power", "supports"), [(2.0, True), (1.0, False), (0.0, None)])
def test_size_sweep_of_time(power: float, supports: bool | None) -> None:
    service = Service(lambda path: (0.002 + 1e-5 * limit_of(path) ** power, 1))
    result = confirm(finding("superlinear", "size-sweep", step="list", measure="time"), service.tools())
    assert result.supports is supports
    assert result.subject == "here"
    assert service.requests <= 400
    if power:
        assert result.estimate is not None
        assert result.x == (10, 10, 20, 20, 40, 40, 80, 80, 160, 160)


def test_size_sweep_stops_at_sizes_that_are_refused() -> None:
    result = confirm(
        finding("superlinear", "size-sweep", step="list"), Service(lambda path: (-1 if limit_of(path) > 50 else 1e-4 * limit_of(path) ** 2, 1)).tools()
    )
    assert max(result.x) == 40
    assert result.supports


@pytest.mark.parametrize(("per_row", "supports"), [(1.0, True), (0.0, False)])
def test_size_sweep_of_round_trips(per_row: float, supports: bool) -> None:
    service = Service(lambda path: (0.01, 12 + per_row * limit_of(path)))
    assert confirm(finding("n-plus-one", "size-sweep", step="list", measure="round-trips"), service.tools()).supports is supports


def test_size_sweep_of_a_parameter_that_only_the_description_names() -> None:
    service = Service(lambda path: (0.01, 3 + limit_of(path)))
    bare = Step(name="bare", paths=("/list",))
    experiment = finding("n-plus-one", "size-sweep", step="bare", measure="round-trips")
    assert confirm(experiment, service.tools(bare)).supports is None
    assert confirm(experiment, service.tools(bare, parameters={"bare": {"limit": 40}})).supports is True


def test_only_get_is_sent() -> None:
    service = Service(lambda _: (0.01, 1))
    post = LIST.with_(method="POST")
    for kind in ("size-sweep", "repeat-same", "noop-beside", "rate-double"):
        result = confirm(finding("x", kind, step="list", spent_s=1, solo_s=1), service.tools(post))
        assert result.supports is None
        assert result.note
    assert service.requests == 0


def test_repeat_same() -> None:
    expensive = confirm(finding("cache-ineffective", "repeat-same", step="list", spent_s=0.018, solo_s=0.02), Service(lambda _: (0.02, 1)).tools())
    cheap = confirm(finding("cache-ineffective", "repeat-same", step="list", spent_s=0.018, solo_s=0.02), Service(lambda _: (0.002, 1)).tools())
    assert (expensive.supports, cheap.supports) == (True, False)


def test_repeat_same_finds_a_cache_that_is_too_small() -> None:
    recent: list[str] = []

    def model(path: str) -> tuple[float, float]:
        hit = path in recent
        recent[:] = [*[item for item in recent if item != path], path][-4:]
        return (0.002 if hit else 0.02), 1

    step = Step(name="list", paths=tuple(f"/item/{number}" for number in range(12)))
    assert confirm(finding("cache-ineffective", "repeat-same", step="list", spent_s=0.018, solo_s=0.02), Service(model).tools(step)).supports is True


@pytest.mark.parametrize(("leak", "supports"), [(20_000.0, True), (0.0, False), (6_000.0, None)])
def test_rate_double(leak: float, supports: bool | None) -> None:
    service = Service(lambda _: (0.01, 1), leak=leak)
    result = confirm(finding("memory-leak", "rate-double", bytes_per_request=20_000.0), service.tools())
    assert result.supports is supports
    assert service.requests <= 420


@pytest.mark.parametrize(("beside", "supports"), [(0.02, True), (0.0, False)])
def test_noop_beside(beside: float, supports: bool) -> None:
    service = Service(lambda path: (0.1 if "list" in path else 0.001, 0), beside=beside)
    assert confirm(finding("event-loop-blocked", "noop-beside", step="list"), service.tools()).supports is supports


@pytest.mark.parametrize(("after", "supports"), [(10.0, True), (1000.0, False), (700.0, None)])
def test_twin_index(after: float, supports: bool | None) -> None:
    service = Service(lambda _: (0.01, 1), what_if=(1000.0, after, ""))
    result = confirm(finding("missing-index", "twin-index", query="SELECT 1", ddl="CREATE INDEX …"), service.tools())
    assert result.supports is supports
    assert result.y == (1000.0, after)


def drained(generator: Generator[Event, None, tuple[ExperimentResult, ...]]) -> tuple[list[Event], tuple[ExperimentResult, ...]]:
    events: list[Event] = []
    while True:
        try:
            events.append(next(generator))
        except StopIteration as stop:
            return events, stop.value


def test_all_experiments_once_each_and_audited(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path)
    service = Service(lambda _: (0.01, 1), what_if=CannotMeasure("the twin cannot plan this query"))
    suspects = [
        finding("missing-index", "twin-index", query="q", ddl="d"),
        finding("missing-index", "twin-index", query="q", ddl="d"),
        finding("x", "unheard-of"),
    ]
    suspects.append(Finding(rule="cpu-hot-spot", confidence=Confidence.LIKELY, title="no experiment"))
    events, results = drained(confirm_all(suspects, service.tools(), audit, 100.0))
    assert [result.rule for result in results] == ["missing-index", "x"]
    assert "cannot plan" in results[0].note
    assert {result.supports for result in results} == {None}
    assert len(events) == 2
    assert sorted(event.outcome for event in audit.entries()) == ["failure", "in_progress", "in_progress", "success"]


def test_no_time_left_no_experiment(tmp_path: Path) -> None:
    service = Service(lambda _: (0.01, 1), what_if=(1.0, 1.0, ""))
    assert drained(confirm_all([finding("missing-index", "twin-index")], service.tools(), AuditLog(tmp_path), 3.0)) == ([], ())


def test_knobs_sizes_first_and_no_page_numbers() -> None:
    step = Step(name="s", paths=("/s?customer=7&limit=10&page=3&q=lamp", "/s?limit=30"))
    assert [(knob.name, knob.value) for knob in knobs(step, {"offset": 0, "days": 7})] == [("limit", 30), ("days", 7), ("customer", 7)]
    assert knobs(step, {})[0].at(60) == "/s?limit=60"
    assert knobs(Step(name="s", paths=("/s",)), {"limit": 5})[0].at(9) == "/s?limit=9"


def test_judges_say_nothing_about_too_few_points() -> None:
    knob = knobs(LIST, {})[0]
    assert judge_time(Swept(knob, (1.0, 2.0), (1.0, 4.0)), 1.25)[0] is None
    assert judge_trips(Swept(knob, (1.0,), (9.0,)))[0] is None


def test_parameters_by_the_description() -> None:
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 18}}
    word = {"name": "q", "in": "query", "schema": {"type": "string", "default": "x"}}
    document = {
        "paths": {"/orders/recent": {"get": {"parameters": [limit, word]}}, "/orders/{id}": {"get": {"parameters": [limit | {"name": "depth"}]}}, "/ok": {}}
    }
    steps = (Step(name="recent", paths=("/orders/recent?x=1",)), Step(name="one", paths=("/orders/7",)), OK, Step(name="none", paths=("/elsewhere",)))
    assert parameters_of(document, steps) == {"recent": {"limit": 18}, "one": {"depth": 18}}


@pytest.mark.parametrize(("cpu_share", "supports"), [(0.9, True), (0.5, None), (0.05, False)])
def test_taking_cpu_away_slows_what_computes(cpu_share: float, supports: bool | None) -> None:
    """The reference takes twice as long beside the competitor; of the endpoint only what computes does."""
    busy = [False]

    @contextmanager
    def beside(burst_s: float, rest_s: float) -> Iterator[tuple[float, str]]:
        assert (burst_s, round(rest_s, 4)) == (0.018, 0.002)
        busy[0] = True
        yield 2.0, "a competitor"
        busy[0] = False

    service = Service(lambda _: (0.02 * (1 + cpu_share * busy[0]), 0))
    tools = service.tools(compete=beside)
    result = confirm(finding("cpu-hot-spot", "cpu-less", step="ok", cpu_s=0.018, share=0.9), tools)
    assert result.supports is supports
    assert not busy[0]
    assert result.estimate is not None
    assert abs(result.estimate.value - cpu_share) < 0.05


def test_a_competitor_that_takes_nothing_tells_nothing() -> None:
    tools = Service(lambda _: (0.02, 0)).tools(compete=lambda burst_s, rest_s: nullcontext((1.02, "a competitor")))
    assert confirm(finding("cpu-hot-spot", "cpu-less", step="ok", cpu_s=0.018, share=0.9), tools).supports is None
    assert confirm(finding("cpu-hot-spot", "cpu-less", step="ok", cpu_s=0.018, share=0.9), Service(lambda _: (0.02, 0)).tools()).supports is None
