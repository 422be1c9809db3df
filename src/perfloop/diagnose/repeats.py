"""One request asks the same peer again and again: what the rules about repeated calls have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfloop.diagnose.calls import calls_of, repeated_place
from perfloop.diagnose.counted import counted_place
from perfloop.diagnose.finish import at, code_change, gain, ms, percent, place_of, share_of, unknown, where
from perfloop.diagnose.frames import Doing
from perfloop.diagnose.reading import Reading, Sample, StepView
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Experiment, Finding, RuleResult


@dataclass(frozen=True)
class Repeats:
    """The words of one such rule. ``asks``: "calls another service"; ``calls``: "calls to other services"."""

    rule: str
    peers: frozenset[str]
    doing: Doing
    asks: str
    calls: str
    hypothesis: str
    disproof: str
    advice: str
    prevention: str
    change: str
    kind: str  # of call, where calls are counted

    def per_request(self, step: StepView) -> float:
        """Calls per request of an endpoint alone: counted where that was possible, else by the kernel's segments."""
        exact = step.counted.get(self.kind)
        return exact.per_request if exact else step.trips(self.peers)

    def seconds(self, step: StepView) -> float:
        """Time of its counted calls per request, 0 where none were counted; never more than the request."""
        exact = step.counted.get(self.kind)
        return exact.seconds if exact else 0.0


def nothing_counts(evidence: Evidence, reading: Reading) -> bool:
    """True where neither the kernel nor an agent nor traces told of calls."""
    return not evidence.sockets and not any(step.counted or step.round_trips for step in reading.steps.values())


def unknown_calls(rule: str) -> RuleResult:
    """What a rule about calls answers then."""
    return unknown(rule, "traffic of the service's sockets is missing, and its calls were not counted", "start the service with: perfloop run -- COMMAND")


def delay_slope(step: StepView, peers: frozenset[str], peer: str, trips: float, refutes: str, subject: str = "") -> Experiment:
    """The experiment that delays each round trip of an endpoint to a kind of peer; ``trips`` expected, 0 to ask only whether it is on the path."""
    address = next((address for kind, address in step.peers.items() if kind in peers), "")
    return Experiment(
        kind="delay-slope", params={"subject": subject or step.name, "step": step.name, "peer": peer, "address": address, "trips": trips}, refutes=refutes
    )


def repeated(
    reading: Reading,
    step: StepView,
    words: Repeats,
    calls: float,
    spent_s: float,
    limit: Mapping[str, float],
    experiment: Experiment,
    samples: Sequence[Sample] = (),
) -> Finding:
    """The finding: ``calls`` per request that take ``spent_s`` of it, alone."""
    place, _ = repeated_place(reading, samples or calls_of(reading, step, words.doing))
    exact = step.counted.get(words.kind)
    line, in_loop = counted_place(reading.code, exact.most) if exact else (None, False)
    place = line if line and (place is None or in_loop) else place
    looped = place is not None and reading.code.in_loop(place)
    whole = step.solo_s or spent_s
    share = share_of(spent_s, whole, sum(sample.count for sample in step.samples) or step.requests, "this endpoint alone")
    saved = spent_s * (1 - 1 / calls)
    facts = [
        f"{calls:.0f} {words.calls} per request of {step.name} ({step.requests} requests alone)",
        f"they take {ms(spent_s)} of {ms(whole)} per request, {ms(spent_s / calls)} each",
    ]
    facts += [exact.told] if exact else []
    facts += [f"made at {at(place, reading.source_root)} in {place.function}()" + (", inside a loop" if looped else "")] if place else []
    return Finding(
        rule=words.rule,
        confidence=Confidence.LIKELY if looped or calls >= limit["many"] else Confidence.POSSIBLE,
        title=f"{step.name} {words.asks} {calls:.0f} times per request, {percent(spent_s / whole)} of its time",
        place=place_of(place),
        steps=(step.name,),
        share=share,
        win_back_s=gain(saved * step.rate_per_s, step.rate_per_s, share, "this endpoint alone"),
        win_back_per_s=saved * step.rate_per_s,
        evidence=tuple(facts),
        hypothesis=words.hypothesis,
        disproof=words.disproof,
        experiment=experiment,
        fix=where(place, reading.source_root) + words.advice,
        prevention=words.prevention,
        proposals=code_change(words.change, place, words.advice),
    )
