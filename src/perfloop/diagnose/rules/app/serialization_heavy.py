"""A request spends its time turning objects into text, or text into objects.

What it finds
    Endpoints that compute for a good part of their time inside serialisers: JSON, XML, YAML and pickle encoders and decoders, model validation, field renderers.

Why it costs you
    It is CPU time that no other request of the process can use, it grows with every field that is sent, and nobody reads most of the fields.

How it decides
    Sent alone, at least ``share_min`` of the endpoint's time and ``request_min_s`` per request are samples on a CPU below a serialiser's frames (or at a line
    that calls a compiled one). Likely from ``likely_s`` per request on.

What would disprove it
    The time does not change when fewer fields, or fewer rows, are asked for.

How to fix
    Send fewer fields and rows, skip a validation that was done before, use a compiled serialiser (orjson, msgspec), or keep the encoded text.

Sources
    Smith & Williams, "Tower of Babel"; ICSE 2018, Yang et al., "How not to structure your database-backed web applications" (unnecessary data).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from perfloop.diagnose.finish import at, code_change, conclude, gain, ms, percent, place_of, share_of, where
from perfloop.diagnose.frames import library_path
from perfloop.diagnose.reading import Reading, Sample, StepView, by_place
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Experiment, Finding, RuleResult

ID = "serialization-heavy"
NEEDS = ("solo", "stacks")
THRESHOLDS = {"share_min": 0.35, "request_min_s": 0.004, "likely_s": 0.006}

_FILES = re.compile(
    r"^/(json/(encoder|decoder|__init__)\.py|simplejson/|ujson|orjson|msgspec|msgpack|pickle\.py|copy\.py|xml/|lxml/|yaml/|google/protobuf/|avro/|dicttoxml|xmltodict"
    r"|fastapi/encoders\.py|pydantic/|marshmallow/|rest_framework/(serializers|fields|renderers)\.py|flask/json/|django/core/serializ|cattrs?/|dataclasses\.py|csv\.py)"
)
_CALLS = re.compile(
    r"\b(json|orjson|ujson|simplejson|pickle|msgpack|msgspec\.\w+|yaml|marshal)\.(dumps?|loads?|encode|decode|packb|unpackb)\(|\bjsonify\(|JsonResponse\(|JSONResponse\("
)


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every endpoint that was sent alone."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    for step in reading.steps.values():
        samples = [sample for sample in step.samples if sample.cpu > 0 and _serialises(reading, sample)]
        spent = sum(sample.cpu for sample in samples)
        if step.solo_s and spent >= max(limit["share_min"] * step.solo_s, limit["request_min_s"]):
            found.append(_finding(reading, step, samples, spent, limit))
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found, f"no endpoint spends {percent(limit['share_min'])} and {ms(limit['request_min_s'])} of a request in serialisers")


def _serialises(reading: Reading, sample: Sample) -> bool:
    if any(_FILES.search(library_path(frame.file)) for frame in sample.beneath):
        return sample.layer is None
    return not sample.beneath and sample.place is not None and bool(_CALLS.search(reading.code.text(sample.place)))


def _finding(reading: Reading, step: StepView, samples: Sequence[Sample], spent: float, limit: Mapping[str, float]) -> Finding:
    lines = by_place(samples, lambda sample: sample.cpu)
    place = lines[0][0] if lines and lines[0][1] >= 0.3 * spent else step.handler
    names: dict[str, float] = {}
    for sample in samples:
        for frame in sample.beneath:
            if _FILES.search(library_path(frame.file)):
                names[library_path(frame.file).strip("/")] = names.get(library_path(frame.file).strip("/"), 0.0) + sample.cpu
                break
    share = share_of(spent, step.solo_s or 0.0, sum(sample.count for sample in step.samples), "this endpoint alone")
    size = next((item.body_bytes for item in reading.evidence.responses if item.step == step.name), None)
    advice = "send fewer fields and rows, validate once, and use a compiled serialiser; keep the encoded text where it does not change"
    facts = [f"{step.name} computes {ms(spent)} of {ms(step.solo_s or 0.0)} per request in serialisers, alone ({step.requests} requests)"]
    facts += [f"most of it in {max(names, key=lambda name: names[name])}"] if names else []
    facts += [f"under {at(place, reading.source_root)} in {place.function}()"] if place else []
    facts += [f"one answer has {size:,} bytes"] if size else []
    won = spent * step.rate_per_s
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if spent >= limit["likely_s"] else Confidence.POSSIBLE,
        title=f"{step.name} spends {percent(spent / (step.solo_s or spent))} of its time in serialisers",
        place=place_of(place),
        steps=(step.name,),
        share=share,
        win_back_s=gain(won, step.rate_per_s, share, "this endpoint alone"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis="more is encoded than the request needs, or by a slow encoder",
        disproof="the time does not change when fewer fields or rows are asked for",
        experiment=Experiment(
            kind="cpu-less",
            params={"subject": step.name, "step": step.name, "cpu_s": spent, "share": spent / (step.solo_s or spent)},
            refutes="if requests are as fast when another process takes CPU away, they do not wait for computing",
        ),
        fix=where(place, reading.source_root) + advice,
        prevention="a limit on the size of answers in tests",
        proposals=code_change("serialise less, or faster", place, advice),
    )
