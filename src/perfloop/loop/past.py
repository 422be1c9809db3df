"""``perfloop history``: the stored runs of one target as series, and where those moved to another level."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from pathlib import Path

from perfloop.loop.gate import gate
from perfloop.loop.stored import opened
from perfloop.model.event import Event
from perfloop.model.replies import HistoryChange, HistoryPoint, HistoryResult, HistorySeries
from perfloop.model.requests import GateRequest, HistoryRequest
from perfloop.model.result import RunResult
from perfloop.store.runs import RunStore

#: runs whose rates differ by more are not of the same load
RATE_TOLERANCE = 0.05
RUNS_MIN = 12

Figure = Callable[[RunResult], float | None]


def history(request: HistoryRequest, cwd: Path | None) -> HistoryResult:
    """The series of the newest run's target and load (or of the URL asked for), with their changes of level."""
    loaded, store = opened(request.config, cwd)
    runs = _alike(store, request.url or loaded.config.target.url, request.limit)
    if not runs:
        return HistoryResult(notes=("no stored run measured a baseline",), next="perfloop check URL")
    newest = runs[-1]
    series = tuple(one for name, unit, figure, higher in _figures(newest) if (one := _series(name, unit, figure, higher, runs, request.effect_min)))
    notes = []
    if len(runs) < RUNS_MIN:
        notes.append(f"{len(runs)} runs of this load are stored; changes of level are looked for from {RUNS_MIN} on")
    if not any(run.target.git_revision for run in runs):
        notes.append("no run knows its commit: the service's folder is no git repository, or the target is remote")
    worse = _worse(series)
    suspect = _suspect(series)
    return HistoryResult(
        ok=not (worse and request.strict),
        target=newest.target.url,
        rate_per_s=newest.rate_per_s,
        runs=len(runs),
        series=series,
        notes=tuple(notes),
        next=f"perfloop gate --against {suspect.after_run.revision[:12]} --candidate {suspect.by_run.revision[:12]}" if suspect else "",
    )


def confirm(request: HistoryRequest, found: HistoryResult, cwd: Path | None) -> Generator[Event, None, HistoryResult]:
    """The history with the verdict on both commits of its newest change for the worse, measured side by side; they decide ``ok`` then."""
    suspect = _suspect(found.series)
    if suspect is None:
        nothing: HistoryResult = found.with_(notes=(*found.notes, "nothing to confirm: no figure got worse between two known commits"))
        return nothing
    against, candidate = suspect.after_run.revision, suspect.by_run.revision
    measured = yield from gate(GateRequest(config=request.config, against=against, candidate=candidate), cwd)
    notes = (*found.notes, f"{candidate[:12]} was measured against {against[:12]}, interleaved on this machine")
    confirmed: HistoryResult = found.with_(verdict=measured.verdict, notes=notes, next="", ok=measured.ok or not request.strict)
    return confirmed


def _worse(series: Iterable[HistorySeries]) -> list[HistoryChange]:
    return [one.changes[-1] for one in series if one.changes and one.changes[-1].worse]


def _suspect(series: Iterable[HistorySeries]) -> HistoryChange | None:
    """The first change for the worse between two known commits."""
    return next((change for change in _worse(series) if change.after_run.revision and change.by_run.revision), None)


def _alike(store: RunStore, url: str, limit: int) -> list[RunResult]:
    """The runs with a baseline of the same target, load and requests as the newest of them, oldest first."""
    found: list[RunResult] = []
    for row in store.list_runs(limit):
        if (url and row.target_url != url) or not (store.root / "runs" / row.run_id / "run.json").exists():
            continue
        run = store.load_result(row.run_id)
        if run.before is None or not run.before.generator_ok:
            continue
        if found and not _same_load(found[0], run):
            continue
        found.append(run)
    return found[::-1]


def _same_load(a: RunResult, b: RunResult) -> bool:
    assert a.before is not None
    assert b.before is not None
    names = [{step.name for step in run.steps} for run in (a.before, b.before)]
    return a.target.url == b.target.url and names[0] == names[1] and abs(a.rate_per_s - b.rate_per_s) <= RATE_TOLERANCE * max(a.rate_per_s, b.rate_per_s)


def _figures(newest: RunResult) -> list[tuple[str, str, Figure, bool]]:
    """(name, unit, how to read it, whether higher is better); each run's state at its beginning."""

    def p95_of(name: str) -> Figure:
        return lambda run: next((s.p95_s.value for s in (run.before.steps if run.before else ()) if s.name == name and s.p95_s), None)

    figures: list[tuple[str, str, Figure, bool]] = [
        ("p95 of all requests", "s", lambda run: run.before.total.p95_s.value if run.before and run.before.total.p95_s else None, False),
        ("mean of all requests", "s", lambda run: run.before.total.mean_s if run.before else None, False),
        ("CPU per request", "s", lambda run: run.before.cpu_seconds_per_request if run.before else None, False),
        ("highest rate within the SLO", "requests/s", lambda run: run.throughput_before.rate_per_s if run.throughput_before else None, True),
    ]
    steps = newest.before.steps if newest.before else ()
    return figures + [(f"p95 of {step.name}", "s", p95_of(step.name), False) for step in steps if len(steps) > 1]


def _series(name: str, unit: str, figure: Figure, higher_is_better: bool, runs: list[RunResult], effect_min: float) -> HistorySeries | None:
    from perfloop.stats.changepoints import change_points  # numpy: only where it is needed

    points = tuple(
        HistoryPoint(run_id=run.run_id, started_at=run.started_at, revision=run.target.git_revision, value=value)
        for run in runs
        if (value := figure(run)) is not None and value > 0
    )
    if not points:
        return None
    changes = tuple(
        HistoryChange(
            ratio=found.ratio,
            p=found.p,
            after_run=points[max(0, found.low - 1)],
            at=points[found.index],
            by_run=points[found.high],
            worse=(found.ratio < 1) if higher_is_better else (found.ratio > 1),
        )
        for found in change_points([point.value for point in points], ratio_min=1 + effect_min)
    )
    return HistorySeries(metric=name, unit=unit, points=points, changes=changes)
