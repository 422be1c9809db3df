"""The proof of one change: randomised pairs of rounds with it on and off, the same schedule of arrivals in both."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass

from perfloop.loop.measure import Meter, quiet
from perfloop.model.change import Change
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.run import Window
from perfloop.model.verdict import Proof, Verdict
from perfloop.validate.compare import compare, decided
from perfloop.validate.levels import Metric, level
from perfloop.validate.schedule import schedule

MOST_OF_TRAFFIC = 0.5
PAIRS_MIN = 3
#: Named before the first round. Where one endpoint suffers: its p95. Where most traffic does, the p95 is that of the slowest endpoint, which may
#: have reasons of its own; the mean of all requests is what is won back.
METRIC_ONE: Metric = "p95_s"
METRIC_ALL: Metric = "mean_s"


@dataclass(frozen=True)
class Switch:
    """How to turn the change on and off; ``settled`` is called after each turn, because a restart gives the service a new process."""

    on: Callable[[], None]
    off: Callable[[], None]
    settled: Callable[[], None]


def judged_step(change: Change, meter: Meter) -> str | None:
    """The endpoint that a change is judged by, chosen before the first round: the one that suffers most, or all requests where it is about most of the traffic."""
    if not change.steps:
        return None
    total = sum(step.weight for step in meter.steps)
    touched = sum(step.weight for step in meter.steps if step.name in change.steps)
    return None if touched > MOST_OF_TRAFFIC * total else change.steps[0]


def hopeless(pairs: list[tuple[Window, Window]], step: str | None, metric: Metric, effect_min: float) -> bool:
    """True where, after three pairs, the estimate itself is no improvement worth keeping. Giving up early only ever undoes, so it adds no false claim."""
    levels = [(level([off], step, metric), level([on], step, metric)) for off, on in pairs]
    logs = [math.log(on / off) for off, on in levels if off and on]
    return len(logs) >= PAIRS_MIN and sum(logs) / len(logs) > math.log(1 - effect_min)


def prove(meter: Meter, change: Change, switch: Switch, rate_per_s: float, seed: int) -> Generator[Event, None, Verdict]:
    """The change is on when this begins and on when it returns."""
    measure = meter.config.measure
    step = judged_step(change, meter)
    metric = METRIC_ALL if step is None else METRIC_ONE
    name = "p95" if step else "mean"
    yield PhaseStarted(
        phase="prove",
        detail=f"{change.title}: up to {measure.pairs} pairs of {measure.pairs_window_s:g} s, by the {name} of {step or 'all requests'}",
        left_s=meter.left_s,
    )
    pairs: list[tuple[Window, Window]] = []
    is_on = True
    for number, order in enumerate(schedule(measure.pairs, seed)):
        arms: dict[str, Window] = {}
        for arm in order:
            if is_on != (arm == "B"):
                is_on = arm == "B"
                (switch.on if is_on else switch.off)()
                switch.settled()
            if measure.settle_s:
                yield from quiet(meter.window("settle", rate_per_s, measure.settle_s, seed=0))
            arms[arm] = yield from meter.window(f"proof-{arm.lower()}", rate_per_s, measure.pairs_window_s, seed=seed + number)
        pairs.append((arms["A"], arms["B"]))
        off, on = level([arms["A"]], step, metric), level([arms["B"]], step, metric)
        if off and on:
            yield Told(text=f"pair {number + 1}: {name} {off * 1000:.0f} ms without, {on * 1000:.0f} ms with")
        if hopeless(pairs, step, metric, measure.effect_min):
            break
        if decided(pairs, step=step, metric=metric, effect_min=measure.effect_min, confidence=measure.confidence):
            break
    if not is_on:
        switch.on()
        switch.settled()
    return compare(pairs, step=step, metric=metric, effect_min=measure.effect_min, confidence=measure.confidence, proof=Proof.TOGGLED)
