"""What it means: the outcome of each rule."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from perfloop.model.base import Estimate, Word


class Outcome(StrEnum):
    """What a rule answers. ``ruled_out``: it was suspected and an experiment refuted it."""

    FOUND = "found"
    CLEAR = "clear"
    RULED_OUT = "ruled_out"
    NOT_APPLICABLE = "not_applicable"
    UNKNOWN = "unknown"


class Confidence(StrEnum):
    """``confirmed`` by an experiment, ``likely`` by a complete chain of evidence, ``possible`` by a part of it."""

    CONFIRMED = "confirmed"
    LIKELY = "likely"
    POSSIBLE = "possible"


class Place(Word):
    """Where it is: a function and line, a query, or a setting; only what is known is filled in."""

    file: str = ""
    line: int = 0
    function: str = ""
    query: str = ""
    query_id: str = ""
    setting: str = ""
    peer: str = ""


class Experiment(Word):
    """The experiment that would refute a finding; ``loop/confirm.py`` knows how to run each ``kind``.

    Kinds: ``size-sweep`` (vary a query parameter: ``step``, ``parameter``), ``repeat-same`` (send the very same request again: ``step``),
    ``rate-double`` (``step`` or all: does memory grow with requests), ``noop-beside`` (latency of a cheap step beside ``step``), ``twin-index`` (``ddl``, ``query_id``),
    ``cpu-less`` (a competitor on the service's core: ``step``, ``cpu_s``, ``share``), ``setting-double`` (``answers``; done by ``improve`` as a change),
    ``delay-slope`` (every round trip to ``peer`` delayed: ``step``, ``trips`` expected per request, 0 where only its being on the path can be refuted).
    ``otherwise`` is run where this one does not tell.
    """

    kind: str
    params: dict[str, Any] = {}
    refutes: str  # the sentence a user reads: "if latency does not grow with page size, this is not it"
    otherwise: Experiment | None = None


class Proposal(Word):
    """What would fix it, as input to a change kind (``change/kinds``): ``kind`` and its ``params``. ``kind`` ``code`` is shown, never applied."""

    kind: str
    title: str
    params: dict[str, Any] = {}


class Finding(Word):
    """One cause, with its evidence. ``win_back_s`` is the time an average request would win back, ``win_back_per_s`` that times the request rate: the rank."""

    rule: str
    confidence: Confidence
    title: str
    place: Place = Place()
    steps: tuple[str, ...] = ()  # the endpoints that suffer, worst first
    share: Estimate | None = None  # of those endpoints' time, 0..1
    win_back_s: Estimate | None = None
    win_back_per_s: float = 0.0  # seconds of request time won back each second, over all traffic
    evidence: tuple[str, ...] = ()  # facts, each with its number
    hypothesis: str = ""
    disproof: str = ""
    experiment: Experiment | None = None
    fix: str = ""
    prevention: str = ""
    actor: str = "backend developer"  # who should act: a role of mission §10
    proposals: tuple[Proposal, ...] = ()


class RuleResult(Word):
    """The outcome of one rule; ``findings`` only where it is ``found``, else ``reason`` says what was looked at, or what is missing and how to get it."""

    rule: str
    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    fix: str = ""


class Diagnosis(Word):
    """All rules' results; ``findings`` ranked, most time won back first."""

    findings: tuple[Finding, ...] = ()
    results: tuple[RuleResult, ...] = ()
