"""The answer about one query as text: the cause first, then its evidence, the fix, and where the time goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfloop.model.finding import Finding
from perfloop.model.query import FixTried, QueryResult
from perfloop.model.verdict import Decision
from perfloop.report.text import change, digits, percent, printable

CAUSES_SHOWN = 3
PLAN_LINES_MAX = 24


def query_text(result: QueryResult, verbose: bool) -> str:
    """A screenful; everything with ``verbose``."""
    evidence = result.evidence
    lines = list(_head(result))
    if not result.causes:
        lines += ["", result.why_none]
    for number, finding in enumerate(result.causes if verbose else result.causes[:CAUSES_SHOWN], 1):
        lines += ["", *_cause(number, finding, full=verbose or number == 1)]
    lines += [line for fix in result.fixes for line in _fix(fix)]
    if result.where:
        lines += ["", "where the time goes", *(f"  {percent(share):>6}  {name}" for name, share in list(result.where.items())[: None if verbose else 5])]
    if evidence.plan_then and evidence.plan_changed:
        lines += ["", f"plan then ({evidence.then_name})", *_plan(evidence.plan_then), "plan now", *_plan(evidence.plan_now)]
    elif verbose:
        lines += ["", "plan", *_plan(evidence.plan_now)]
    lines += ["", *(f"note: {note}" for note in evidence.notes)] if evidence.notes else []
    return printable("\n".join([*lines, "", *_next(result)]).rstrip())


def _head(result: QueryResult) -> Iterator[str]:
    evidence, run = result.evidence, result.evidence.run
    yield evidence.text if len(evidence.text) <= 200 else evidence.text[:200] + "…"
    if run and run.times_ms:
        text = f"{digits(run.best_ms)} ms (fastest of {len(run.times_ms)}; {', '.join(digits(time) for time in run.times_ms)} ms), {run.rows:,.0f} rows"
        if result.time_ratio is not None and evidence.time_then_ms:
            text += f"; {digits(evidence.time_then_ms)} ms then ({evidence.time_then_source}), × {digits(result.time_ratio)}"
        yield text
    elif run and run.lock_wait_ms:
        yield f"not finished: it waited {digits(run.lock_wait_ms)} ms for a lock"
    else:
        yield f"planned, not executed; cost {digits(evidence.cost_now or 0)}"
    if evidence.mean_ms is not None:
        yield f"pg_stat_statements: {evidence.calls or 0:,} calls of {digits(evidence.mean_ms)} ms, {digits(evidence.rows_per_call or 0)} rows each"
    if evidence.plan_changed is not None:
        costs = f"cost {digits(evidence.cost_then or 0)} → {digits(evidence.cost_now or 0)}"
        yield f"the plan {'changed' if evidence.plan_changed else 'has the same shape'} since {evidence.then_name}; {costs}; {evidence.tried} combinations tried"


def _cause(number: int, finding: Finding, full: bool) -> Iterator[str]:
    share = f", {percent(finding.share.value)} of its time" if finding.share else ""
    yield f"{number}. {finding.rule} ({finding.confidence.value}{share}): {finding.title}"
    if not full:
        yield f"   fix: {finding.fix}"
        return
    yield from (f"   - {fact}" for fact in finding.evidence)
    if finding.disproof:
        yield f"   would disprove it: {finding.disproof}"
    yield f"   fix: {finding.fix}"
    if finding.prevention:
        yield f"   next time: {finding.prevention}"
    yield f"   for: {finding.actor}"


def _fix(fix: FixTried) -> Iterator[str]:
    yield ""
    if fix.verdict is not None:
        mark = {Decision.KEPT: "kept", Decision.UNDONE: "undone", Decision.STUCK: "STUCK"}.get(fix.decision or Decision.SHOWN, str(fix.decision))
        verdict = fix.verdict
        yield f"{mark}: {fix.title}"
        if verdict.before and verdict.after:
            yield f"   {digits(verdict.before.value * 1000)} ms → {digits(verdict.after.value * 1000)} ms, {change(verdict.ratio)} ({verdict.proof.value}, {verdict.pairs} pairs)"
        if fix.reason:
            yield f"   {fix.reason}"
    elif fix.cost_after is not None and fix.cost_before is not None:
        yield f"tried in the planner twin: {fix.title}: cost {digits(fix.cost_before)} → {digits(fix.cost_after)}"
        if fix.reason:
            yield f"   {fix.reason}"
    else:
        yield f"{fix.decision.value if fix.decision else 'shown'}, not applied: {fix.title}" + (f" ({fix.reason})" if fix.reason else "")
    yield from (f"   undo: {command}" for command in (fix.change.undo_commands if fix.change and fix.decision == Decision.KEPT else ()))


def _plan(node: dict[str, Any], depth: int = 0) -> list[str]:
    name = node.get("Node Type", "?")
    where = " ".join(
        part
        for part in (f"using {node['Index Name']}" if "Index Name" in node else "", f"on {node['Relation Name']}" if "Relation Name" in node else "")
        if part
    )
    condition = node.get("Index Cond") or node.get("Hash Cond") or node.get("Merge Cond") or node.get("Join Filter") or node.get("Filter") or ""
    text = f"  {'  ' * depth}{name}{f' {where}' if where else ''}  (cost {digits(node.get('Total Cost', 0))}, {digits(node.get('Plan Rows', 0))} rows)"
    lines = [f"{text}  {condition}"[:200].rstrip()]
    for child in node.get("Plans", ()):
        lines += _plan(child, depth + 1)
    return lines[:PLAN_LINES_MAX] if depth == 0 else lines


def _next(result: QueryResult) -> Iterator[str]:
    if (
        result.causes
        and not any(fix.decision == Decision.KEPT for fix in result.fixes)
        and result.causes[0].proposals
        and result.causes[0].proposals[0].kind != "code"
    ):
        yield "Next:  the same command with --fix applies the first fix, proves it, and keeps or undoes it"
    if result.snapshot:
        yield f"Stored: what the planner knows now, as {result.snapshot} (perfloop query … --was DATE)"
