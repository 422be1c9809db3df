"""The sentences that every format opens with, built from the stored result."""

from __future__ import annotations

from perfloop.model.finding import Finding, Place
from perfloop.model.result import RunResult, SloCheck
from perfloop.model.verdict import Decision, Verdict
from perfloop.report import capacity
from perfloop.report.text import change, counted, digits, estimate, percent, seconds

DECISIONS = {
    Decision.KEPT: "kept",
    Decision.UNDONE: "undone",
    Decision.REFUSED: "refused",
    Decision.SHOWN: "shown, not applied",
    Decision.STUCK: "STUCK",
    Decision.FAILED: "failed",
}


def headline(result: RunResult) -> str:
    """The verdict as one sentence."""
    if result.commands:
        return "An undo is stuck: the system may be changed, and the commands below must be run by hand."
    if result.state == "failed":
        return "The run could not measure; nothing here is a result."
    if result.state == "interrupted":
        return f"Interrupted: what was open is undone, and these are the partial results{_kept_clause(result)}."
    if result.state == "running":
        return "This run has not ended; the figures are those so far."
    if result.capacity_plan is not None:
        return capacity.answer(result.capacity_plan)
    if result.load_test is not None:
        return f"{result.load_test.kind.capitalize()} test: {result.load_test.answer}."
    return _improve(result) if result.kind == "improve" else _look(result)


def _improve(result: RunResult) -> str:
    before = result.before.total.p95_s if result.before else None
    after = result.after.total.p95_s if result.after else None
    kept = [tried for tried in result.tried if tried.decision == Decision.KEPT]
    if not kept:
        return f"Nothing was changed for good{_first_finding(result)}."
    gain = result.improvement.get("response_time")
    if gain is None or before is None or after is None:
        return f"{counted(len(kept), 'change was', 'changes were')} proved and kept; over all requests together no change of the p95 is proved."
    return f"p95 fell from {seconds(before.value)} to {seconds(after.value)}, {percent(gain.value)} less{_kept_clause(result)}."


def _kept_clause(result: RunResult) -> str:
    kept = sum(tried.decision == Decision.KEPT for tried in result.tried)
    undone = sum(tried.decision == Decision.UNDONE for tried in result.tried)
    parts = [counted(kept, "change") + " kept"] * bool(kept) + [f"{undone} undone"] * bool(undone)
    return f": {', '.join(parts)}" if parts else ""


def _look(result: RunResult) -> str:
    p95 = result.before.total.p95_s if result.before else None
    level = f"p95 is {seconds(p95.value)}" if p95 else "no latency was measured"
    missed = [check for check in result.slo_checks if check.ok is False]
    slo = f", {slo_text(missed[0])}" if missed else ", and every SLO that could be measured is met" if result.slo_checks else ""
    return f"{level[0].upper() if level[0] != 'p' else 'p'}{level[1:]}{slo}{_first_finding(result)}."


def _first_finding(result: RunResult) -> str:
    findings = (result.diagnosis_after or result.diagnosis).findings
    if findings:
        return f"; the first cause is {findings[0].rule} ({findings[0].confidence})"
    return "; no rule found a bottleneck" if result.diagnosis.results else ""


def slo_text(check: SloCheck) -> str:
    """One promise against its measurement: ``p95 ≤ 200 ms: missed by 118 ms``."""
    measured = "not measured" if check.measured is None else "met" if check.ok else "missed" if check.ok is False else "inconclusive"
    if check.measured is None or check.ok is None:
        return f"{check.name} ≤ {bound_text(check.bound, check.unit)}: {measured}"
    return f"{check.name} ≤ {bound_text(check.bound, check.unit)}: {measured} ({bound_text(check.measured, check.unit)})"


def bound_text(value: float, unit: str) -> str:
    """A bound or its measurement in its own unit; shares as percent."""
    if unit in ("", "share", "ratio"):
        return percent(value)
    return seconds(value) if unit == "s" else f"{digits(value)} {unit}"


def place_text(place: Place) -> str:
    """Where it is, shortest useful form: ``app/orders.py:41 in list_orders``, a setting, a query."""
    parts = []
    if place.file:
        parts.append(f"{place.file}{f':{place.line}' if place.line else ''}{f' in {place.function}' if place.function else ''}")
    elif place.function:
        parts.append(place.function)
    parts += [text for text in (f"setting {place.setting}" if place.setting else "", place.query, f"peer {place.peer}" if place.peer else "") if text]
    return " · ".join(parts)


def gain_text(finding: Finding) -> str:
    """What an average request would win back, and how much of the affected endpoints' time that concerns."""
    parts = []
    if finding.win_back_s is not None:
        parts.append(f"could win back {estimate(finding.win_back_s)} a request")
    if finding.share is not None:
        parts.append(f"{percent(finding.share.value)} of the time of {', '.join(finding.steps) or 'all requests'}")
    return "; ".join(parts)


def proof_text(verdict: Verdict | None) -> str:
    """A verdict with its ratio, its interval and what it rests on."""
    if verdict is None:
        return "not measured"
    moved = f": {metric_text(verdict)} {change(verdict.ratio)}" if verdict.ratio else ""
    return f"{verdict.status}{moved}, {verdict.proof}, {counted(verdict.pairs, 'pair')} of {seconds(verdict.round_s)}"


def metric_text(verdict: Verdict) -> str:
    """What a verdict is about, without the unit in its name: ``p95 of GET /orders``."""
    return verdict.metric.replace("_s of ", " of ").removesuffix("_s")


def next_command(result: RunResult) -> str:
    """The one command that follows from this result; empty where nothing does."""
    if result.commands:
        return "perfloop rollback --show"
    findings = (result.diagnosis_after or result.diagnosis).findings
    if result.kind == "check" and any(proposal.kind != "code" for finding in findings for proposal in finding.proposals):
        return f"perfloop improve {result.target.url}"
    if findings:
        return f"perfloop explain {findings[0].rule}"
    if result.load_test is not None:
        return f"perfloop check {result.target.url}" if result.load_test.ok is False else "perfloop report last"
    return "perfloop baseline main"
