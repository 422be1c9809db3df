"""Calls that were counted, by the agent inside the service or from traces: exact, where sockets only tell segments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perfloop.diagnose.code import Code
from perfloop.model.calls import CallCount, CallsObservation
from perfloop.model.evidence import Frame


@dataclass(frozen=True)
class Counted:
    """Calls of one kind per request of an endpoint: how many, how long, and the one that is made most, with its share of them."""

    per_request: float
    seconds: float
    most: CallCount
    most_per_request: float
    requests: int
    source: str

    @property
    def told(self) -> str:
        """The fact in words."""
        by = "the agent inside the service" if self.source == "agent" else "its traces"
        return f"counted by {by}: {self.per_request:.1f} calls per request, of which {self.most_per_request:.1f} are {self.most.text[:160]}"


def counted(observations: Iterable[CallsObservation], requests_sent: int) -> dict[str, Counted]:
    """By kind of call, over all processes of a service while one endpoint was sent alone. Traces win where both are there and the agent saw no requests."""
    by_kind: dict[str, list[CallCount]] = {}
    requests, source = 0, ""
    for observation in observations:
        for entry in observation.requests:
            requests += entry.requests
            source = source or (observation.source if entry.requests else "")
            for call in entry.calls if entry.name else ():
                by_kind.setdefault(call.kind, []).append(call)
    seen = requests or requests_sent
    if seen <= 0:
        return {}
    found = {}
    for kind, calls in by_kind.items():
        texts: dict[str, list[CallCount]] = {}
        for call in calls:
            texts.setdefault(call.text, []).append(call)
        most = max(texts.values(), key=lambda same: sum(call.calls for call in same))
        found[kind] = Counted(
            per_request=sum(call.calls for call in calls) / seen,
            seconds=sum(call.seconds for call in calls) / seen,
            most=max(most, key=lambda call: call.calls),
            most_per_request=sum(call.calls for call in most) / seen,
            requests=seen,
            source=source or "agent",
        )
    return found


def counted_place(code: Code, call: CallCount) -> tuple[Frame | None, bool]:
    """The line that makes a call, the line of a loop around it where a helper is called from one, and whether it is in a loop."""
    if not call.places:
        return None, False
    frames = [Frame(file=file, line=line, function=function) for file, line, function in max(call.places, key=lambda place: place.seen).lines]
    looped = next((frame for frame in frames if code.in_loop(frame)), None)
    return looped or (frames[0] if frames else None), looped is not None


def all_calls(observations: Sequence[CallsObservation]) -> list[CallCount]:
    """Every counted call."""
    return [call for observation in observations for entry in observation.requests for call in entry.calls]
