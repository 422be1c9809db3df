"""The evidence as rules read it: samples with what they were doing, endpoints alone and under load, and which sample belongs to which endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from perfloop.diagnose.code import Code
from perfloop.diagnose.counted import Counted, counted
from perfloop.diagnose.frames import Doing, is_app, is_loop, library_layer, request_start, waiting_for
from perfloop.model.evidence import Evidence, Frame, SoloObservation, StacksObservation
from perfloop.model.run import StepSamples, Window

DATABASE_PEERS = frozenset({"postgresql", "mysql", "mongodb"})
HTTP_PEERS = frozenset({"http", "unknown"})


@dataclass(frozen=True)
class Sample:
    """One distinct stack of a request. ``app``: its application frames, outermost first; ``beneath``: library frames under the innermost of them.

    ``cpu`` and ``wait`` are seconds per second of the window for loaded samples, and seconds per request for solo samples; ``count`` is the number of samples.
    ``layer`` is the kind of library called into, whether it computed or waited there.
    """

    app: tuple[Frame, ...]
    beneath: tuple[Frame, ...]
    waits_for: Doing
    layer: Doing | None
    on_loop: bool
    cpu: float
    wait: float
    count: float
    thread: str = ""  # pid and name of the thread it ran on

    @property
    def total(self) -> float:
        """Computing and waiting together."""
        return self.cpu + self.wait

    @property
    def place(self) -> Frame | None:
        """The innermost application frame."""
        return self.app[-1] if self.app else None

    def under(self, function: tuple[str, str]) -> bool:
        """True where that function (file, name) is on the stack."""
        return any((frame.file, frame.function) == function for frame in self.app)


Where = Callable[[Sample], bool]


def seconds(samples: Iterable[Sample], doing: Doing) -> float:
    """The summed time of one kind: of ``Doing.CPU`` what was computed, of any other what was waited."""
    return sum(sample.cpu if doing is Doing.CPU else (sample.wait if sample.waits_for is doing else 0.0) for sample in samples)


@dataclass(frozen=True)
class StepView:
    """One endpoint: what it costs alone (per request, seconds) and under load."""

    name: str
    rate_per_s: float  # answered under load
    loaded_s: float | None  # mean latency under load
    solo_s: float | None  # mean latency alone
    requests: int = 0  # of the solo run
    cpu_s: float | None = None  # of the service's processes, per request, alone
    samples: tuple[Sample, ...] = ()  # alone, per request
    round_trips: dict[str, float] = field(default_factory=dict)  # peer kind → per request, alone
    waiting_s: dict[str, float] = field(default_factory=dict)  # peer kind → per request, alone, from sockets
    peers: dict[str, str] = field(default_factory=dict)  # peer kind → host:port with the most waiting
    counted: dict[str, Counted] = field(default_factory=dict)  # kind of call → counted per request, alone

    def alone(self, doing: Doing) -> float:
        """Seconds per request alone, of one kind, from stacks."""
        return seconds(self.samples, doing)

    def trips(self, kinds: frozenset[str]) -> float:
        """Round trips per request alone to peers of these kinds."""
        return sum(count for kind, count in self.round_trips.items() if kind in kinds)

    @property
    def handler(self) -> Frame | None:
        """The line of the outermost application function on which most of its time passes, alone: in most frameworks the handler."""
        lines: dict[Frame, float] = {}
        for sample in self.samples:
            if sample.app:
                lines[sample.app[0]] = lines.get(sample.app[0], 0.0) + sample.total
        return max(lines, key=lambda frame: lines[frame]) if lines else None

    def waited(self, kinds: frozenset[str]) -> float:
        """Waiting per request alone on peers of these kinds, from sockets."""
        return sum(value for kind, value in self.waiting_s.items() if kind in kinds)


class Reading:
    """An evidence, read. Build one per rule; everything is computed when first asked for."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.code = Code(evidence.source)
        self.source_root = evidence.target.source_root

    @cached_property
    def loaded(self) -> tuple[Sample, ...]:
        """Samples of requests under load, in seconds per second, all processes together."""
        found: list[Sample] = []
        for stacks in self.evidence.stacks:
            found += self._samples(stacks, 1 / (stacks.rate_hz * max(stacks.window_s, 1e-9)))
        return tuple(found)

    @cached_property
    def steps(self) -> dict[str, StepView]:
        """All endpoints by name."""
        solos = {solo.step: solo for solo in self.evidence.solo}
        window = self.evidence.window or self.evidence.baseline
        names = list(dict.fromkeys([*(item.name for item in (window.steps if window else ())), *solos]))
        return {name: self._step(name, window, solos.get(name)) for name in names}

    @property
    def rate_per_s(self) -> float:
        """Requests answered a second under load, all endpoints."""
        return sum(step.rate_per_s for step in self.steps.values())

    @cached_property
    def by_step(self) -> dict[str, list[Sample]]:
        """Loaded samples by endpoint; a sample that several could have caused is shared among them."""
        found: dict[str, list[Sample]] = {name: [] for name in self.steps}
        for sample in self.loaded:
            for name, share in self._owners(sample).items():
                part = sample
                if share < 0.999:
                    part = replace(sample, cpu=sample.cpu * share, wait=sample.wait * share, count=sample.count * share)
                found[name].append(part)
        return found

    def loaded_time(self, name: str) -> float:
        """Seconds per second that requests of an endpoint spend under load: by latency, or by what stacks saw where that is more (timeouts have no latency)."""
        step = self.steps[name]
        by_latency = step.rate_per_s * (step.loaded_s or 0.0)
        return max(by_latency, sum(sample.total for sample in self.by_step.get(name, ()) if not sample.on_loop))

    def steps_of(self, samples: Iterable[Sample]) -> dict[str, float]:
        """How the time of loaded samples divides among endpoints, largest first; seconds per second."""
        found: dict[str, float] = {}
        for sample in samples:
            for name, share in self._owners(sample).items():
                found[name] = found.get(name, 0.0) + share * sample.total
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    @property
    def cores_used(self) -> float | None:
        """Mean cores that the service's processes used under load; None where that was not seen."""
        seen = [process.cpu_s / process.window_s for process in self.evidence.processes if process.window_s > 0]
        return sum(seen) if seen else None

    @cached_property
    def _functions(self) -> dict[tuple[str, str], dict[str, float]]:
        found: dict[tuple[str, str], dict[str, float]] = {}
        for name, step in self.steps.items():
            for sample in step.samples:
                for key in {(frame.file, frame.function) for frame in sample.app}:
                    of = found.setdefault(key, {})
                    of[name] = of.get(name, 0.0) + sample.total * max(step.rate_per_s, 0.01)
        return found

    @cached_property
    def _framework(self) -> dict[str, float]:
        """What endpoints spend outside of the application's code, alone, times their rate; by rate where none was seen."""
        seen = {
            name: step.rate_per_s * sum(sample.total for sample in step.samples if not sample.app) for name, step in self.steps.items() if step.rate_per_s > 0
        }
        return seen if sum(seen.values()) > 0 else {name: step.rate_per_s for name, step in self.steps.items() if step.rate_per_s > 0}

    def _owners(self, sample: Sample) -> dict[str, float]:
        shared: dict[str, float] = {}
        for frame in sample.app:
            owners = self._functions.get((frame.file, frame.function), {})
            if len(owners) == 1:
                return dict.fromkeys(owners, 1.0)
            if owners and (not shared or len(owners) < len(shared)):
                shared = owners
        total = sum(shared.values())
        if total <= 0:
            weights = self._framework
            whole = sum(weights.values())
            return {name: value / whole for name, value in weights.items()} if whole > 0 else {}
        return {name: value / total for name, value in shared.items()}

    def _step(self, name: str, window: Window | None, solo: SoloObservation | None) -> StepView:
        under_load = next((item for item in window.steps if item.name == name), None) if window else None
        rate = under_load.ok / window.duration_s if window and under_load and window.duration_s > 0 else 0.0
        loaded_s = mean_s(under_load)
        if solo is None or solo.requests <= 0:
            return StepView(name, rate, loaded_s, None)
        samples: list[Sample] = []
        for stacks in solo.stacks:
            covered = max(1.0, solo.window_s / max(stacks.window_s, 1e-9))
            samples += self._samples(stacks, covered / stacks.rate_hz / solo.requests)
        trips: dict[str, float] = {}
        waiting: dict[str, float] = {}
        peers: dict[str, tuple[float, str]] = {}
        for peer in solo.sockets.peers if solo.sockets else ():
            trips[peer.kind] = trips.get(peer.kind, 0.0) + peer.round_trips / solo.requests
            waiting[peer.kind] = waiting.get(peer.kind, 0.0) + (peer.waiting_s or 0.0) / solo.requests
            peers[peer.kind] = max(peers.get(peer.kind, (-1.0, "")), (peer.waiting_s or float(peer.round_trips) / 1e6, f"{peer.host}:{peer.port}"))
        cpu = None if solo.cpu_s is None else solo.cpu_s / solo.requests
        named = {kind: text for kind, (_, text) in peers.items()}
        return StepView(
            name, rate, loaded_s, mean_s(solo.samples), solo.requests, cpu, tuple(samples), trips, waiting, named, counted(solo.calls, solo.requests)
        )

    def _samples(self, stacks: StacksObservation, scale: float) -> list[Sample]:
        found: list[Sample] = []
        loops = {stack.thread for stack in stacks.stacks if is_loop([stacks.frames[i] for i in stack.frames])}
        for stack in stacks.stacks:
            frames = [stacks.frames[index] for index in stack.frames]
            start = request_start(frames)
            if start is None:
                continue
            app = [index for index in range(start, len(frames)) if is_app(frames[index], self.source_root)]
            beneath = tuple(frames[app[-1] + 1 :] if app else frames[start:])
            mine = _named(frames[index] for index in app)
            doing = waiting_for(mine, beneath, self.code)
            waiting = stack.total - stack.active
            if doing is Doing.IDLE:
                waiting = 0.0  # a worker or loop without a request
            if waiting + stack.active <= 0:
                continue
            on_loop = stack.thread in loops
            thread = f"{stacks.pid}:{stack.thread}"
            found.append(Sample(mine, beneath, doing, library_layer(beneath), on_loop, stack.active * scale, waiting * scale, stack.active + waiting, thread))
        return found


def _named(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    """Application frames with comprehensions and lambdas named by the function that holds them, so that their time counts for it."""
    named: list[Frame] = []
    for frame in frames:
        if frame.function.endswith(">") and named and named[-1].file == frame.file and "<module>" not in frame.function:
            frame = Frame(function=named[-1].function, file=frame.file, line=frame.line)
        named.append(frame)
    return tuple(named)


def mean_s(samples: StepSamples | None) -> float | None:
    """The mean latency of the successes, in seconds; None without any."""
    count = sum(samples.latency.counts) if samples else 0
    return samples.latency.sum_s / count if samples and count else None


def by_function(samples: Iterable[Sample], value: Callable[[Sample], float]) -> dict[tuple[str, str], float]:
    """Inclusive seconds of each application function (file, name)."""
    found: dict[tuple[str, str], float] = {}
    for sample in samples:
        for key in {(frame.file, frame.function) for frame in sample.app}:
            found[key] = found.get(key, 0.0) + value(sample)
    return found


def by_place(samples: Iterable[Sample], value: Callable[[Sample], float]) -> list[tuple[Frame, float]]:
    """Seconds by innermost application line, most first."""
    found: dict[Frame, float] = {}
    for sample in samples:
        if sample.place is not None:
            found[sample.place] = found.get(sample.place, 0.0) + value(sample)
    return sorted(found.items(), key=lambda item: -item[1])


def deepest(samples: Sequence[Sample], value: Callable[[Sample], float], least: float) -> tuple[str, str] | None:
    """The innermost function whose inclusive time is at least ``least``: of the functions that own so much, the one on the deepest frames."""
    owners = {key for key, total in by_function(samples, value).items() if total >= least and total > 0}
    if not owners:
        return None
    inner: dict[tuple[str, str], float] = {}
    for sample in samples:
        for frame in reversed(sample.app):
            key = (frame.file, frame.function)
            if key in owners:
                inner[key] = inner.get(key, 0.0) + value(sample)
                break
    return max(inner, key=lambda key: inner[key])
