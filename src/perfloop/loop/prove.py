"""The proof of one change: randomised pairs of rounds with it on and off, the same schedule of arrivals in both."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from perfloop.loop.measure import Meter, quiet, window_p95
from perfloop.model.change import Change
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.run import Window
from perfloop.model.verdict import Proof, Verdict
from perfloop.validate.compare import compare, decided
from perfloop.validate.levels import Metric
from perfloop.validate.schedule import schedule

METRIC: Metric = "p95_s"  # named before the first round; the endpoint is the finding's


@dataclass(frozen=True)
class Switch:
    """How to turn the change on and off; ``settled`` is called after each turn, because a restart gives the service a new process."""

    on: Callable[[], None]
    off: Callable[[], None]
    settled: Callable[[], None]


def prove(meter: Meter, change: Change, switch: Switch, rate_per_s: float, seed: int) -> Generator[Event, None, Verdict]:
    """The change is on when this begins and on when it returns. """
    measure = meter.config.measure
    step = change.steps[0] if change.steps else None
    yield PhaseStarted(
        phase="prove",
        detail=f"{change.title}: up to {measure.pairs} pairs of {measure.pairs_window_s:g} s, by the p95 of {step or 'all requests'}",
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
        off, on = window_p95(arms["A"], step), window_p95(arms["B"], step)
        if off and on:
            yield Told(text=f"pair {number + 1}: p95 {off * 1000:.0f} ms without, {on * 1000:.0f} ms with")
        if decided(pairs, step=step, metric=METRIC, effect_min=measure.effect_min, confidence=measure.confidence):
            break
    if not is_on:
        switch.on()
        switch.settled()
    return compare(pairs, step=step, metric=METRIC, effect_min=measure.effect_min, confidence=measure.confidence, proof=Proof.TOGGLED)
