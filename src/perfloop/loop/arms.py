"""Two states of a service side by side: started, warmed up, and measured in randomised pairs by sending the same arrivals to one or the other."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

from perfloop.context.discover import discover
from perfloop.errors import CannotMeasure, PerfloopError, UsageError
from perfloop.host.command import run_command
from perfloop.host.http import fetch
from perfloop.host.worktree import free_port, running
from perfloop.load.journeys import journeys_from_config
from perfloop.loop.measure import Meter, quiet
from perfloop.loop.prove import GiveUp, Switch, never, rounds
from perfloop.model.config import Config
from perfloop.model.event import Event
from perfloop.model.journey import Journeys, Step
from perfloop.model.run import Window
from perfloop.model.target import Target
from perfloop.validate.question import Question

RATE_PER_S = 20.0
AA_WINDOWS = 4


def question_of(config: Config, pairs: int | None = None) -> Question:
    """What two states of the code are judged by: the mean of all requests unless the configuration names another metric."""
    metric = "mean_s" if config.measure.metric == "auto" else config.measure.metric
    return Question(None, metric, config.gate.effect_min, config.measure.confidence, pairs or config.gate.pairs)


def refuse_unconfigured(config: Config) -> None:
    """``UsageError`` where nobody said how the service is started."""
    if not config.gate.start_command:
        raise UsageError("how the service is started is not configured", fix='set gate.start_command, e.g. "python app.py --port {port}"')


def started(config: Config, folder: Path, rate_per_s: float | None, stack: ExitStack, command: str = "") -> Meter:
    """Build, start and wait for one state; its meter."""
    if config.gate.build_command:
        built = run_command(config.gate.build_command, cwd=folder, timeout_s=config.gate.build_timeout_s)
        if not built.ok:
            raise CannotMeasure(
                f"the build failed in {folder}", why=(built.stderr or built.stdout).strip()[-500:], fix=f"run it by hand: {config.gate.build_command}"
            )
    port = free_port()
    process = stack.enter_context(running(command or config.gate.start_command, folder, port))
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


def warmed(meter: Meter) -> Generator[Event, None, None]:
    """A first window that is not judged."""
    if warmup_s := meter.config.measure.warmup_s:
        yield from quiet(meter.window("warm-up", rate_of(meter), warmup_s, seed=0))


def alike(meter: Meter) -> Generator[Event, None, list[Window]]:
    """A/A windows of one state: what can be found here."""
    windows: list[Window] = []
    for number in range(AA_WINDOWS):
        windows += [(yield from quiet(meter.window("a/a", rate_of(meter), meter.config.measure.pairs_window_s, seed=900 + number)))]
    return windows


def interleaved(old: Meter, new: Meter, question: Question, seed: int, give_up: GiveUp = never) -> Generator[Event, None, list[tuple[Window, Window]]]:
    """Pairs of rounds (old, new) until they decide or the cap is reached."""
    shared = Meter(new.config, old.target, new.steps, new.headers, new.deadline)
    switch = Switch(lambda: _point(shared, new.target), lambda: _point(shared, old.target), lambda: None)
    return (yield from rounds(shared, switch, question, rate_of(new), seed, is_on=False, give_up=give_up))


def rate_of(meter: Meter) -> float:
    """The configured arrival rate."""
    return meter.config.measure.rate_per_s or RATE_PER_S


def _point(meter: Meter, target: Target) -> None:
    meter.target = target
