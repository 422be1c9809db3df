"""How rules say what they found: the same words, numbers with their sample, and experiments that confirm or rule out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from perfloop.model.base import Estimate
from perfloop.model.evidence import Evidence, ExperimentResult, Frame
from perfloop.model.finding import Confidence, Finding, Outcome, Place, Proposal, RuleResult


def ms(value_s: float) -> str:
    """Seconds as milliseconds, with the digits that matter."""
    value = value_s * 1000
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{100 * min(share, 1.0):.0f} %"


def at(frame: Frame, root: str = "") -> str:
    """``file:line`` of a frame, relative to the service's source root."""
    return f"{short(frame.file, root)}:{frame.line}"


def short(file: str, root: str) -> str:
    """A file relative to the source root."""
    prefix = root.rstrip("/") + "/"
    return file[len(prefix) :] if root and file.startswith(prefix) else file


def place_of(frame: Frame | None) -> Place:
    """The place a frame names; an empty one for None."""
    return Place() if frame is None else Place(file=frame.file, line=frame.line, function=frame.function)


def code_change(title: str, frame: Frame | None, advice: str) -> tuple[Proposal, ...]:
    """The one proposal of a finding that only its author can act on."""
    where = {"file": frame.file, "line": frame.line, "function": frame.function} if frame else {}
    return (Proposal(kind="code", title=title, params={**where, "advice": advice}),)


def where(frame: Frame | None, root: str) -> str:
    """``file:line: `` before an advice; empty where the place is not known."""
    return f"{at(frame, root)}: " if frame else ""


def share_of(part: float, whole: float, samples: float, source: str) -> Estimate:
    """A share with the Wilson score interval (95 %) of a proportion of ``samples``."""
    share = min(1.0, part / whole) if whole > 0 else 0.0
    if samples < 1:
        return Estimate(value=share, n=0, unit="share", source=source)
    z = 1.96
    centre = (share + z * z / (2 * samples)) / (1 + z * z / samples)
    half = z * math.sqrt(share * (1 - share) / samples + z * z / (4 * samples * samples)) / (1 + z * z / samples)
    return Estimate(value=share, low=max(0.0, centre - half), high=min(1.0, centre + half), n=round(samples), unit="share", source=source)


def gain(per_s: float, rate_per_s: float, share: Estimate | None, source: str) -> Estimate | None:
    """The time that one request of the affected endpoints would win back: ``per_s`` over their rate, with the relative interval of ``share``."""
    if rate_per_s <= 0:
        return None
    value = per_s / rate_per_s
    if share is None or not share.value or share.low is None or share.high is None:
        return Estimate(value=value, unit="s", source=source)
    return Estimate(value=value, low=value * share.low / share.value, high=value * share.high / share.value, n=share.n, unit="s", source=source)


def experiment_of(evidence: Evidence, rule: str, subject: str) -> ExperimentResult | None:
    """The last experiment that was run for this rule and subject."""
    found = [result for result in evidence.experiments if result.rule == rule and result.subject == subject]
    return found[-1] if found else None


def conclude(rule: str, evidence: Evidence, candidates: Sequence[Finding], clear: str) -> RuleResult:
    """The result of a rule: its candidates as its experiments left them. Supported: confirmed; refuted: ruled out; not told: as it was, with the note."""
    kept: list[Finding] = []
    refuted: list[str] = []
    for finding in candidates:
        subject = str(finding.experiment.params.get("subject", "")) if finding.experiment else ""
        result = experiment_of(evidence, rule, subject) if subject else None
        if result is None:
            kept.append(finding)
        elif result.supports is False:
            refuted.append(f"{finding.title}: refuted by experiment ({result.kind}): {result.note or finding.disproof}")
        else:
            changes: dict[str, object] = {"evidence": (*finding.evidence, f"experiment {result.kind}: {result.note}")}
            if result.supports:
                changes["confidence"] = Confidence.CONFIRMED
            kept.append(finding.with_(**changes))
    if kept:
        return RuleResult(rule=rule, outcome=Outcome.FOUND, findings=tuple(kept), reason="; ".join(refuted))
    if refuted:
        return RuleResult(rule=rule, outcome=Outcome.RULED_OUT, reason="; ".join(refuted))
    return RuleResult(rule=rule, outcome=Outcome.CLEAR, reason=clear)


def unknown(rule: str, reason: str, fix: str = "") -> RuleResult:
    """The evidence does not tell."""
    return RuleResult(rule=rule, outcome=Outcome.UNKNOWN, reason=reason, fix=fix)


def not_applicable(rule: str, reason: str) -> RuleResult:
    """The rule is about something this service does not have."""
    return RuleResult(rule=rule, outcome=Outcome.NOT_APPLICABLE, reason=reason)
