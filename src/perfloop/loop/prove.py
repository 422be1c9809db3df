"""The proof of one change: randomised pairs of rounds with it on and off, the same schedule of arrivals in both."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from perfloop.loop.measure import Meter, quiet
from perfloop.model.change import Change
from perfloop.model.config import MeasureConfig
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.run import Window
from perfloop.model.target import Environment
from perfloop.model.verdict import Proof, Verdict, VerdictStatus
from perfloop.stats.student import mean_sd
from perfloop.validate.before_after import filled
from perfloop.validate.compare import aa_reach, compare, decided, guards_ok, pairs_needed
from perfloop.validate.fresh import confirmed
from perfloop.validate.levels import level
from perfloop.validate.question import Question
from perfloop.validate.schedule import schedule

MOST_OF_TRAFFIC = 0.5
PAIRS_MIN = 3
#: A round in which the hypervisor took more than this share of a core's time is repeated, whatever it says and whichever arm it was.
STEAL_SHARE_MAX = 0.05
#: at most this share of all pairs is repeated
REPEATED_SHARE_MAX = 0.25
#: seconds beside the rounds that repeating a proof may take: toggles, restarts
AGAIN_SPARE_S = 20.0
#: schedules of fresh rounds are none of those that decided
FRESH_SEED = 500
#: an estimate that would need more than so many times the cap on pairs is given up
HOPELESS_TIMES = 3


#: whether more rounds are not worth their time; it may only ever lead to undoing
GiveUp = Callable[[Sequence[tuple[Window, Window]], Question], bool]


def never(_pairs: Sequence[tuple[Window, Window]], _question: Question) -> bool:
    """Goes on to the cap."""
    return False


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


def asked(step: str | None, measure: MeasureConfig, environment: Environment) -> Question:
    """The question, before the first round. Where one endpoint suffers: its p95. Where most traffic does, the p95 is that of the slowest endpoint,
    which may have reasons of its own, and in the mean a single burst outweighs all else: the geometric mean weighs each request's own gain. In production guards must be shown to hold."""
    metric = measure.metric if measure.metric != "auto" else ("geomean_s" if step is None else "p95_s")
    strict = environment == Environment.PRODUCTION if measure.guards == "auto" else measure.guards == "non-inferiority"
    return Question(step, metric, measure.effect_min, measure.confidence, measure.pairs, strict)


def hopeless(pairs: Sequence[tuple[Window, Window]], question: Question) -> bool:
    """True where, after three pairs, the estimate is no improvement worth keeping, or one that the cap on pairs is too small for by far.
    Giving up early only ever undoes, so it adds no false claim."""
    levels = [(level([off], question.step, question.metric), level([on], question.step, question.metric)) for off, on in pairs]
    logs = [math.log(on / off) for off, on in levels if off and on]
    if len(logs) < PAIRS_MIN:
        return False
    mean, deviation = mean_sd(tuple(logs))
    if mean > math.log(1 - question.effect_min):
        return True
    needed = pairs_needed(deviation, -mean, question, len(logs))
    return needed is None or needed > HOPELESS_TIMES * question.pairs_max


def prove(meter: Meter, switch: Switch, question: Question, rate_per_s: float, seed: int) -> Generator[Event, None, Verdict]:
    """The change is on when this begins and on when it returns. An improvement must show again on fresh rounds."""
    pairs = yield from rounds(meter, switch, question, rate_per_s, seed, give_up=hopeless)
    verdict = compare(pairs, question, Proof.TOGGLED)
    if verdict.status != VerdictStatus.IMPROVED or not guards_ok(verdict) or not meter.config.measure.confirm_pairs:
        return verdict
    return (yield from again(meter, switch, question, verdict, rate_per_s, seed))


def again(meter: Meter, switch: Switch, question: Question, verdict: Verdict, rate_per_s: float, seed: int) -> Generator[Event, None, Verdict]:
    """The improvement once more, on rounds that had no part in deciding it: rounds that ended because they looked good look better than they are."""
    measure = meter.config.measure
    count = measure.confirm_pairs
    if meter.left_s < 2 * count * (measure.pairs_window_s + measure.settle_s) + AGAIN_SPARE_S:
        return filled(verdict, reason=f"{verdict.reason}; not repeated on fresh rounds: the budget was spent".removeprefix("; "))
    yield Told(text=f"it improved: once more on {count} fresh pair{'s' * (count > 1)}")
    fresh = yield from rounds(meter, switch, replace(question, pairs_max=count), rate_per_s, seed + FRESH_SEED, give_up=never)
    return confirmed(verdict, fresh, question)


def announced(meter: Meter, title: str, question: Question, aa: Sequence[Window]) -> Generator[Event, None, None]:
    """What will be asked, and the smallest effect that it can find, before anything is measured."""
    measure = meter.config.measure
    yield PhaseStarted(
        phase="prove", detail=f"{title}: up to {measure.pairs} pairs of {measure.pairs_window_s:g} s, by the {question.spoken}", left_s=meter.left_s
    )
    reach = aa_reach(aa, question)
    if reach:
        yield Told(
            text=f"A/A: {reach.n} pairs without a change differ by {reach.deviation:.1%}; {reach.pairs} pairs can prove a change of {reach.effect:.1%} or more"
        )


def rounds(
    meter: Meter,
    switch: Switch,
    question: Question,
    rate_per_s: float,
    seed: int,
    *,
    is_on: bool = True,
    give_up: GiveUp = never,
) -> Generator[Event, None, list[tuple[Window, Window]]]:
    """Pairs (without, with) until they decide, ``give_up`` says so or the cap is reached; the change is on afterwards.

    Both rounds of a pair have the same schedule. A pair from which the hypervisor stole is repeated, decided before anybody looks at it.
    """
    pairs: list[tuple[Window, Window]] = []
    repeats_left = math.ceil(question.pairs_max * REPEATED_SHARE_MAX)
    for number, order in enumerate(schedule(question.pairs_max + repeats_left, seed)):
        arms: dict[str, Window] = {}
        for arm in order:
            if is_on != (arm == "B"):
                is_on = arm == "B"
                (switch.on if is_on else switch.off)()
                switch.settled()
            arms[arm] = yield from one_round(meter, f"proof-{arm.lower()}", rate_per_s, seed + number)
        stolen = max(window.steal_share or 0.0 for window in arms.values())
        if stolen > STEAL_SHARE_MAX and repeats_left:
            repeats_left -= 1
            yield Told(text=f"pair {number + 1} is repeated: the hypervisor took {stolen:.0%} of a core")
            continue
        pairs.append((arms["A"], arms["B"]))
        yield from _told(len(pairs), question, arms["A"], arms["B"])
        if len(pairs) >= question.pairs_max or give_up(pairs, question) or decided(pairs, question):
            break
    if not is_on:
        switch.on()
        switch.settled()
    return pairs


def one_round(meter: Meter, label: str, rate_per_s: float, seed: int) -> Generator[Event, None, Window]:
    """Settles for the configured time, then measures."""
    measure = meter.config.measure
    if measure.settle_s:
        yield from quiet(meter.window("settle", rate_per_s, measure.settle_s, seed=0))
    return (yield from meter.window(label, rate_per_s, measure.pairs_window_s, seed=seed))


def _told(number: int, question: Question, without: Window, with_: Window) -> Generator[Event, None, None]:
    off, on = (level([window], question.step, question.metric) for window in (without, with_))
    if off and on:
        yield Told(text=f"pair {number}: {question.spoken.partition(' of ')[0]} {_ms(off)} ms without, {_ms(on)} ms with")


def _ms(value_s: float) -> str:
    value = value_s * 1000
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
