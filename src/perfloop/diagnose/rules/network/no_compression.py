"""Text is sent uncompressed to clients that could take it compressed.

What it finds
    Answers of text or JSON that gzip would make much smaller, sent as they are although the request said that gzip is welcome.

Why it costs you
    Over a mobile or distant network the transfer is most of what the user waits for, and traffic out of a cloud is paid by the gigabyte.

How it decides
    One answer, asked for with ``Accept-Encoding: gzip``, came without an encoding, and gzip saves at least ``saved_min_bytes`` and ``saved_share_min`` of
    it. It stays possible: what it wins depends on the client's network, which is not measured here.

What would disprove it
    A proxy or CDN in front of the service compresses already: ask there.

How to fix
    Compress in the proxy (nginx ``gzip on; gzip_types application/json``) or in the framework's middleware, from about 1 kB on; keep what is compressed already as it is.

Sources
    RFC 9110, content codings; web.dev, "Optimize the encoding and transfer size of text-based assets"; Sentry, "Uncompressed asset" (behaviour).
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import code_change, conclude, percent
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, RuleResult

ID = "no-compression"
NEEDS = ("responses",)
THRESHOLDS = {"saved_min_bytes": 50_000.0, "saved_share_min": 0.5}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge one answer of every endpoint, all together as one finding."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    wasted = []
    for answer in evidence.responses:
        saved = answer.body_bytes - answer.gzip_bytes if answer.gzip_bytes is not None else 0
        if saved >= limit["saved_min_bytes"] and saved >= limit["saved_share_min"] * answer.body_bytes:
            wasted.append((saved, answer))
    clear = f"no answer would be {limit['saved_min_bytes'] / 1000:.0f} kB smaller with gzip"
    if not wasted:
        return conclude(ID, evidence, [], clear)
    wasted.sort(key=lambda item: -item[0])
    traffic = sum(saved * reading.steps[answer.step].rate_per_s for saved, answer in wasted if answer.step in reading.steps)
    worst, first = wasted[0]
    advice = "compress text from about 1 kB on, in the proxy or by the framework's middleware"
    finding = Finding(
        rule=ID,
        confidence=Confidence.POSSIBLE,
        title=f"{first.step} sends {first.body_bytes / 1000:.0f} kB that gzip would make {(first.gzip_bytes or 0) / 1000:.0f} kB",
        steps=tuple(answer.step for _, answer in wasted),
        win_back_per_s=0.0,
        evidence=(
            *(f"{answer.step}: {answer.body_bytes:,} bytes of {answer.content_type}, {answer.gzip_bytes or 0:,} with gzip" for _, answer in wasted[:3]),
            f"{percent(worst / first.body_bytes)} less for the largest; {traffic / 1e6:.2f} MB a second less under this load",
        ),
        hypothesis="the transfer takes longer than it must, over any network that is slower than this one",
        disproof="a proxy or CDN in front compresses already",
        fix=advice,
        prevention="check the Content-Encoding of large answers in tests",
        actor="devops engineer",
        proposals=code_change("compress answers", None, advice),
    )
    return conclude(ID, evidence, [finding], clear)
