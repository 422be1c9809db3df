"""Where the time goes: the response time of each endpoint under load, split into parts that add up to the measured mean, and to the mean of the slowest 5 %.

The mean: what request threads were seen doing under load; for coroutines, whose waits are on no stack, what the endpoint computes and waits for alone. What
an endpoint costs alone beside its code is the server and the network. The rest is waiting for a turn, named where a cause for waiting was seen (an event loop that is
busy, threads that are all taken), and unexplained otherwise.

The slowest 5 %: no sampler knows which requests will be slow, so their parts are an estimate, and say so: the parts of the endpoint alone, what slow requests take longer
also when alone, and the growth under load divided as that of the mean is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from perfloop.diagnose.finish import at
from perfloop.diagnose.frames import Doing
from perfloop.diagnose.occupancy import groups
from perfloop.diagnose.reading import Reading, Sample, StepView
from perfloop.model.breakdown import Breakdown, PartKind, TimePart
from perfloop.model.evidence import Evidence
from perfloop.model.run import StepSamples
from perfloop.stats.histogram import bucket_value

FUNCTIONS_MAX = 4
TAIL = 0.05
REQUESTS_MIN = 20  # fewer have no tail
FULL = 0.8

_KINDS: dict[Doing, PartKind] = {
    Doing.DATABASE: "database",
    Doing.CACHE: "cache server",
    Doing.HTTP: "downstream",
    Doing.POOL: "pool",
    Doing.LOCK: "lock",
    Doing.SLEEP: "sleep",
    Doing.OTHER: "interpreter or core",
}
_PEERS: dict[str, PartKind] = {
    "postgresql": "database",
    "mysql": "database",
    "mongodb": "database",
    "redis": "cache server",
    "memcached": "cache server",
    "http": "downstream",
    "unknown": "downstream",
}
_Key = tuple[PartKind, str]


@dataclass
class _Parts:
    """Seconds per request and samples by part."""

    seconds: dict[_Key, float] = field(default_factory=dict)
    samples: dict[_Key, float] = field(default_factory=dict)

    def add(self, key: _Key, seconds: float, samples: float = 0.0) -> None:
        if seconds > 0:
            self.seconds[key] = self.seconds.get(key, 0.0) + seconds
            self.samples[key] = self.samples.get(key, 0.0) + samples

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def breakdowns(evidence: Evidence) -> tuple[Breakdown, ...]:
    """One for each endpoint that answered under load, most time in all first."""
    reading = Reading(evidence)
    window = evidence.window or evidence.baseline
    steps = {item.name: item for item in window.steps} if window else {}
    ranked = sorted(reading.steps.values(), key=lambda item: -item.rate_per_s * (item.loaded_s or 0.0))
    return tuple(_breakdown(reading, step, steps[step.name]) for step in ranked if step.loaded_s and step.rate_per_s > 0 and step.name in steps)


def _breakdown(reading: Reading, step: StepView, loaded: StepSamples) -> Breakdown:
    whole = step.loaded_s or 0.0
    alone = _alone(reading, step)
    now = _under_load(reading, step, alone)
    if step.solo_s is not None and alone.total < step.solo_s:
        outside: _Key = ("server", "server, framework and network, outside of sampled code (alone)")
        rest = step.solo_s - alone.total
        alone.add(outside, rest)
        now.add(outside, min(rest, max(0.0, whole - now.total)))
    left = whole - now.total
    queue = _queue(reading, step)
    if queue and left > 0:
        now.add(queue, left)
        left = 0.0
    tail_s = tail_mean_s(loaded)
    tail = _tail(step, reading, alone, now, tail_s)
    parts = [
        TimePart(
            kind=kind,
            what=what,
            mean_s=value,
            tail_s=tail.get((kind, what), 0.0) if tail_s else None,
            samples=round(now.samples[kind, what]) or None,
            source=_SOURCES.get(kind, "stacks under load"),
        )
        for (kind, what), value in sorted(now.seconds.items(), key=lambda item: -item[1])
    ]
    known = {(part.kind, part.what) for part in parts}
    parts += [TimePart(kind=kind, what=what, mean_s=0.0, tail_s=value, source="estimate") for (kind, what), value in tail.items() if (kind, what) not in known]
    lost = _zeroed(tail_s - sum(part.tail_s or 0.0 for part in parts)) if tail_s else None
    parts.append(TimePart(kind="unexplained", what="unexplained", mean_s=_zeroed(left), tail_s=lost, source="what is left of the measured time"))
    return Breakdown(step=step.name, requests=loaded.ok, mean_s=whole, tail_mean_s=tail_s, parts=tuple(parts))


def _zeroed(value: float) -> float:
    """Nothing, where only rounding is left."""
    return value if abs(value) > 1e-9 else 0.0


_SOURCES = {"server": "endpoint alone", "queue": "what is left, with all threads taken", "event loop": "what is left, with a busy event loop"}


def _alone(reading: Reading, step: StepView) -> _Parts:
    parts = _split(reading, step.samples, 1.0)
    _add_waits(step, parts)
    return parts


def _under_load(reading: Reading, step: StepView, alone: _Parts) -> _Parts:
    samples = reading.by_step.get(step.name, [])
    parts = _split(reading, samples, 1.0 / step.rate_per_s)
    for key, value in alone.seconds.items():  # the waits of coroutines, seen at the sockets alone
        if key[1].startswith("waiting for "):
            seen = sum(seconds for (kind, _), seconds in parts.seconds.items() if kind == key[0])
            whole = sum(seconds for (kind, _), seconds in alone.seconds.items() if kind == key[0])
            parts.add(key, min(value, whole - seen, (step.loaded_s or 0.0) - parts.total))
    return parts


def _add_waits(step: StepView, parts: _Parts) -> None:
    """What the endpoint waits for at its sockets, as far as its stacks do not show it."""
    for peer, waited in step.waiting_s.items():
        kind = _PEERS.get(peer)
        if kind is None:
            continue
        shown = sum(value for (other, _), value in parts.seconds.items() if other == kind)
        most = max(0.0, (step.solo_s or 0.0) - parts.total)
        if waited > 1.5 * shown and waited - shown > 0.0005:
            parts.add((kind, f"waiting for {step.peers.get(peer, peer)} ({peer})"), min(waited - shown, most))


def _split(reading: Reading, samples: Iterable[Sample], scale: float) -> _Parts:
    parts = _Parts()
    functions = _Parts()
    for sample in samples:
        place = sample.place
        inside = sample.cpu / sample.total if sample.total > 0 else 0.0
        if sample.cpu > 0:
            layer = f" in {sample.layer.value} code" if sample.layer else ""
            name = f"{place.function}() {at(place, reading.source_root)}{layer}" if place else "server and framework"
            functions.add(("cpu", f"computing: {name}"), sample.cpu * scale, sample.count * inside)
        if sample.wait > 0 and not (sample.on_loop and sample.waits_for is Doing.OTHER):
            kind = _KINDS.get(sample.waits_for)
            if kind is not None:
                name = f"{place.function}() {at(place, reading.source_root)}" if place else "server and framework"
                functions.add((kind, f"{kind}: {name}"), sample.wait * scale, sample.count * (1 - inside))
    for kind in {key[0] for key in functions.seconds}:
        ranked = sorted((key for key in functions.seconds if key[0] == kind), key=lambda key: -functions.seconds[key])
        for number, key in enumerate(ranked):
            shown = key if number < FUNCTIONS_MAX else (kind, f"{'computing' if kind == 'cpu' else kind}: everything else")
            parts.add(shown, functions.seconds[key], functions.samples[key])
    return parts


def _queue(reading: Reading, step: StepView) -> _Key | None:
    """What requests of this endpoint wait for before they are begun, where that was seen."""
    for group in groups(reading):
        if step.name in group.steps and group.busy >= FULL:
            return ("queue", f"waiting for one of {group.threads} threads, all taken")
    on_loop = sum(sample.cpu + sample.wait for sample in reading.loaded if sample.on_loop)
    if on_loop >= 0.5:
        return ("event loop", f"waiting for the event loop, which is busy {min(1.0, on_loop):.0%} of the time")
    if (reading.cores_used or 0.0) >= FULL:
        return ("interpreter or core", f"waiting for a turn to compute: {reading.cores_used:.2f} cores are used")
    return None


def tail_mean_s(samples: StepSamples) -> float | None:
    """The mean of the slowest 5 % of a step's successes, within 1 %; None for fewer than twenty."""
    count = sum(samples.latency.counts)
    if count < REQUESTS_MIN:
        return None
    wanted = max(1.0, TAIL * count)
    left, total = wanted, 0.0
    for bucket, number in sorted(zip(samples.latency.buckets, samples.latency.counts, strict=True), reverse=True):
        taken = min(left, number)
        total += taken * min(bucket_value(bucket), samples.latency.max_s)
        left -= taken
        if left <= 0:
            break
    return total / wanted


def _tail(step: StepView, reading: Reading, alone: _Parts, now: _Parts, tail_s: float | None) -> dict[_Key, float]:
    """Parts of the mean of the slowest requests, as far as they can be estimated."""
    if tail_s is None or step.solo_s is None:
        return {}
    found = {key: min(value, now.seconds.get(key, value)) for key, value in alone.seconds.items() if key in now.seconds}
    solo = next((item for item in reading.evidence.solo if item.step == step.name), None)
    slow_alone = tail_mean_s(solo.samples) if solo else None
    varies = max(0.0, min((slow_alone or step.solo_s) - step.solo_s, tail_s - sum(found.values())))
    if varies > 0:
        found["variation", "requests that are slow also when alone"] = varies
    growth = {key: value - found.get(key, 0.0) for key, value in now.seconds.items() if value > found.get(key, 0.0)}
    grown, mean_grown = sum(growth.values()), max(1e-9, (step.loaded_s or 0.0) - sum(value for key, value in found.items() if key[0] != "variation"))
    rest = tail_s - sum(found.values())
    if grown > 0 and rest > 0:
        share = min(1.0, grown / mean_grown)  # of the mean's growth is explained; the tail's is taken to be as well
        for key, value in growth.items():
            found[key] = found.get(key, 0.0) + rest * share * value / grown
    return found
