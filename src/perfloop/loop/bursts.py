"""Sends bursts whose last answer still keeps the SLO, at 40 % of the expected end on average, and reads how fast they are worked off."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import islice
from random import Random

from perfloop.capacity.bursts import Burst, sizes
from perfloop.loop import counters
from perfloop.loop.measure import Meter
from perfloop.loop.resources import Seen
from perfloop.model.arrival import Replay
from perfloop.model.event import Event
from perfloop.model.journey import Step, Workload
from perfloop.model.run import Window

LARGEST_MIN, LARGEST_MAX = 6, 48
SLO_SHARE = 0.8  # of the latency bound that the largest burst may take
BOUND_S = 0.2  # where no bound is configured, and nothing is known of the latency
WARM, REPEATS, WINDOWS = 4, 5, 3
SLOT_MIN_S, SLOT_MAX_S = 0.1, 1.0
LEAD_S = 0.03  # into its slot: counts are told within 20 ms of a slot's end


def largest(ends_per_s: float, bound_s: float, floor_s: float) -> int:
    """Requests of the largest burst: as many as the service works off within its latency bound."""
    return max(LARGEST_MIN, min(LARGEST_MAX, int(ends_per_s * max(0.0, SLO_SHARE * bound_s - floor_s))))


def slot_s(ends_per_s: float, share: float, wanted: Sequence[int]) -> float:
    """Time from burst to burst: so that the mean rate stays at the share, and each burst is over before the next."""
    mean = sum(wanted) / len(wanted)
    return min(SLOT_MAX_S, max(SLOT_MIN_S, mean / (share * ends_per_s), LEAD_S + 2 * wanted[-1] / ends_per_s))


def sent(meter: Meter, ends_per_s: float, share: float, bound_s: float, floor_s: float) -> Generator[Event, None, tuple[list[Burst], list[Seen]]]:
    """The bursts and the windows that they came in; nothing where users' journeys have several requests, whose order a burst would not keep."""
    if meter.journeys or not meter.steps or meter.reshape:
        return [], []
    wanted = sizes(largest(ends_per_s, bound_s, floor_s))
    each_s = slot_s(ends_per_s, share, wanted)
    if sum(wanted) / len(wanted) / each_s > 1.05 * share * ends_per_s:
        return [], []
    bursts, seen = [], []
    for number in range(WINDOWS):
        order = [size for _ in range(REPEATS) for size in wanted]
        Random(number).shuffle(order)
        order = [wanted[-1]] * WARM + order
        before = counters.read(meter.target, meter.pids)
        window = yield from meter.sent("bursts", _workload(meter, order, each_s, 300 + number))
        one = Seen(window, before, counters.read(meter.target, meter.pids), bursts_per_s=1 / each_s)
        if window.generator_ok:
            seen.append(one)
            bursts += _read(window, order, each_s)
    return bursts, seen


def _workload(meter: Meter, order: Sequence[int], each_s: float, seed: int) -> Workload:
    times = tuple(number * each_s + LEAD_S for number, size in enumerate(order) for _ in range(size))
    replay = Replay(times_s=times, journeys=tuple(islice(_in_turn(meter.steps), len(times))))
    base = meter.workload(1.0, each_s * len(order), seed)
    made: Workload = base.with_(rate_per_s=0.0, replay=replay, slot_s=each_s, workers=1)
    return made


def _in_turn(steps: Sequence[Step]) -> Generator[int, None, None]:
    """Steps by their weights as evenly as can be, so that each burst holds nearly the same work (smooth weighted round robin, as nginx does it)."""
    credit = [0.0] * len(steps)
    whole = sum(step.weight for step in steps)
    while True:
        credit = [had + step.weight for had, step in zip(credit, steps, strict=True)]
        best = max(range(len(steps)), key=credit.__getitem__)
        credit[best] -= whole
        yield best


def _read(window: Window, order: Sequence[int], each_s: float) -> list[Burst]:
    """Each burst that was answered whole within its slot: its size, and the time until its last answer."""
    found = []
    for slot in window.per_second:
        number = int(slot.elapsed_s / each_s + 1e-6) - 1
        if WARM <= number < len(order) and slot.sent == slot.ok == order[number] and not slot.errors:
            found.append((order[number], slot.latency.max_s))
    return found


__all__ = ["largest", "sent", "slot_s"]
