"""``perfloop gate``: two states of the code started side by side, measured interleaved, judged with budgets."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

from perfloop.context.discover import discover
from perfloop.errors import CannotMeasure, PerfloopError, UsageError
from perfloop.host.command import run_command
from perfloop.host.http import fetch
from perfloop.host.worktree import commit_of, free_port, running, worktree
from perfloop.load.journeys import journeys_from_config
from perfloop.loop.answers import differing
from perfloop.loop.measure import Meter, quiet
from perfloop.loop.prove import Switch, announced, rounds
from perfloop.loop.stored import opened
from perfloop.model.config import Config
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.journey import Journeys, Step
from perfloop.model.replies import GateResult
from perfloop.model.requests import GateRequest
from perfloop.model.run import Window
from perfloop.model.target import Target
from perfloop.model.verdict import Proof, VerdictStatus
from perfloop.validate.budgets import check_budgets
from perfloop.validate.compare import compare, guards_ok
from perfloop.validate.question import Question

RATE_PER_S = 20.0
WARM_UP_S = 2.0


def gate(request: GateRequest, cwd: Path | None) -> Generator[Event, None, GateResult]:
    """Both states are started, warmed up and measured in randomised pairs; nothing of the working tree is touched."""
    loaded, _ = opened(request.config, cwd)
    config, base = loaded.config, loaded.base_dir
    if not config.gate.start_command:
        raise UsageError("how the service is started is not configured", fix='set gate.start_command, e.g. "python app.py --port {port}"')
    against = commit_of(base, request.against)
    candidate = commit_of(base, request.candidate) if request.candidate else ""
    with ExitStack() as stack:
        folders = {"A": stack.enter_context(worktree(base, against)), "B": stack.enter_context(worktree(base, candidate)) if candidate else base}
        meters: dict[str, Meter] = {}
        for arm, name in (("A", request.against), ("B", request.candidate or "the working tree")):
            yield PhaseStarted(phase="start", detail=f"{name} in {folders[arm]}")
            meters[arm] = _started(config, folders[arm], request.rate_per_s, stack)
        result = yield from _measured(request, meters, against, candidate)
    return result


def _started(config: Config, folder: Path, rate_per_s: float | None, stack: ExitStack) -> Meter:
    """Build, start and wait for one state; its meter."""
    if config.gate.build_command:
        built = run_command(config.gate.build_command, cwd=folder, timeout_s=config.gate.build_timeout_s)
        if not built.ok:
            raise CannotMeasure(
                f"the build failed in {folder}", why=(built.stderr or built.stdout).strip()[-500:], fix=f"run it by hand: {config.gate.build_command}"
            )
    port = free_port()
    process = stack.enter_context(running(config.gate.start_command, folder, port))
    measure = config.measure.with_(rate_per_s=rate_per_s or config.measure.rate_per_s or RATE_PER_S, pairs=config.gate.pairs, effect_min=config.gate.effect_min)
    here = config.with_(target=config.target.with_(url=f"http://127.0.0.1:{port}", process="auto"), measure=measure)
    until = time.monotonic() + config.gate.start_timeout_s
    while True:
        try:
            fetch(here.target.url + (config.target.health_path or "/"))
            break
        except PerfloopError as error:
            if process.poll() is not None or time.monotonic() > until:
                how = f"it ended with status {process.returncode}" if process.returncode is not None else f"no answer within {config.gate.start_timeout_s:g} s"
                raise CannotMeasure(
                    f"the service did not start in {folder}", why=f"{how}: {error.what}", fix=f"start it by hand: {config.gate.start_command}"
                ) from None
            time.sleep(0.1)
    journeys = journeys_from_config(here.journeys) if here.journeys else Journeys(steps=(Step(name="GET /", paths=("/",)),), source="URL")
    return Meter(here, discover(here, folder), journeys.steps, (), time.monotonic() + config.limits.time_max_s)


def _measured(request: GateRequest, meters: dict[str, Meter], against: str, candidate: str) -> Generator[Event, None, GateResult]:
    meter, other = meters["B"], meters["A"]
    measure = meter.config.measure
    rate = measure.rate_per_s or RATE_PER_S
    metric = "mean_s" if measure.metric == "auto" else measure.metric
    question = Question(None, metric, measure.effect_min, measure.confidence, measure.pairs)
    aa: list[Window] = []
    for one in (other, meter):
        yield from quiet(one.window("warm-up", rate, WARM_UP_S, seed=0))
    for number in range(3):  # A/A on the old state: what can be found here
        aa += [(yield from quiet(other.window("a/a", rate, measure.pairs_window_s, seed=900 + number)))]
    yield from announced(meter, f"{request.candidate or 'the working tree'} against {request.against}", question, aa)
    new, old = meter.target, other.target
    shared = Meter(meter.config, old, meter.steps, meter.headers, meter.deadline)
    switch = Switch(lambda: _point(shared, new), lambda: _point(shared, old), lambda: None)
    pairs = yield from rounds(shared, switch, question, rate, measure.seed, is_on=False)
    verdict = compare(pairs, question, Proof.TOGGLED)
    budgets = check_budgets(meter.config.gate.budgets, pairs, question)
    answers = differing(other, meter)
    for text in answers:
        yield Told(level="warning", text=f"answers differ: {text}")
    slower = verdict.status == VerdictStatus.REGRESSED or not guards_ok(verdict)
    unsure = verdict.status == VerdictStatus.INCONCLUSIVE or any(check.ok is None for check in budgets)
    ok = not slower and all(check.ok is not False for check in budgets) and verdict.status != VerdictStatus.INVALID and not (unsure and request.strict)
    return GateResult(ok=ok, against=against, candidate=candidate, verdict=verdict, budgets=budgets, differing_answers=answers)


def _point(meter: Meter, target: Target) -> None:
    meter.target = target
