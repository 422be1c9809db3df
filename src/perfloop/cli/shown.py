"""Answers of the verbs as text."""

from __future__ import annotations

from collections.abc import Sequence

from perfloop.cli.output import Output
from perfloop.model.change import Plan
from perfloop.model.replies import ApprovalsResult, BaselineResult, DoctorResult, LogResult, RollbackResult, StopResult
from perfloop.model.result import RunResult
from perfloop.model.verdict import Verdict
from perfloop.report.formats import terminal
from perfloop.report.headline import metric_text
from perfloop.report.text import change, counted, digits, estimate, percent, printable, seconds

_SIGN = {True: "ok  ", False: "no  ", None: "–   "}


def show_run(result: RunResult, output: Output) -> None:
    """The summary of a run, or the whole run with ``--json``."""
    output.answer(terminal.render(result, color=output.color, full=output.verbose), result)


def doctor_text(result: DoctorResult) -> str:
    """One line a check, with the fix under what is missing."""
    lines = []
    if result.target:
        target = result.target
        process = target.processes[0] if target.processes else None
        what = " ".join(part for part in (process.runtime, process.runtime_version, process.framework) if part) if process else "no local process"
        lines += [f"{target.url}  {target.environment}  {what}", ""]
    for check in result.checks:
        lines.append(f"{_SIGN[check.ok]}{check.name}{': ' + check.found if check.found else ''}")
        if check.ok is False:
            lines += [f"      for: {check.needed_for}"] * bool(check.needed_for) + [f"      fix: {check.fix}"] * bool(check.fix)
    gaps = sum(check.ok is False for check in result.checks)
    lines += ["", *result.notes, f"{counted(gaps, 'gap')}" if gaps else "everything that perfloop knows how to measure can be measured here"]
    return printable("\n".join(lines))


def plan_text(plan: Plan) -> str:
    """Each change with its diff, risk, reach and undo, and the next command."""
    if not plan.changes:
        return "Nothing to change."
    lines = [f"plan {plan.id} for {plan.target_url}, from run {plan.run_id}"]
    for number, item in enumerate(plan.changes, 1):
        gain = plan.expected_gain.get(item.id)
        lines += ["", f"{number}. {item.title}  [{item.safety}]"]
        facts = [("answers", item.finding), ("expected gain", f"{estimate(gain)} a request" if gain else ""), ("risk", item.risk), ("reach", item.reach)]
        lines += [f"   {name}: {text}" for name, text in facts if text]
        lines += [f"   {line}" for line in item.diff.splitlines()]
        lines += [f"   note: {text}" for text in item.lint] + [f"   undo: {command}" for command in item.undo_commands]
    return printable("\n".join([*lines, "", f"Next:  perfloop apply {plan.id}"]))


def stop_text(result: StopResult) -> str:
    """One line a process."""
    if not result.stopped:
        return "No load is running." if result.ok else "Load is still running."
    lines = [f"{item.how}: process {item.pid}{f' of run {item.run_id}' if item.run_id else ''}" for item in result.stopped]
    return printable("\n".join(lines if result.ok else [*lines, "Load is still running: run it again as the user who started it."]))


def rollback_text(result: RollbackResult) -> str:
    """What was undone, or the commands that would."""
    if not result.items:
        return "Nothing to undo."
    lines = []
    for item in result.items:
        lines.append(f"{item.change_id}  {item.state}  {item.title}" + ("  (old value read back)" if item.verified else ""))
        if item.error:
            lines.append(f"  error: {item.error}")
        if result.shown_only or item.error:
            lines += [f"  {command}" for command in item.commands]
    return printable("\n".join(lines + ([f"health: {result.health}"] if result.health else [])))


def approvals_text(result: ApprovalsResult) -> str:
    """What was done, and all approvals."""
    rows = [("ID", "KIND", "TARGET", "ENVIRONMENT", "BY", "TICKET", "GIVEN")]
    rows += [(one.id, one.kind, one.target_url, one.environment, one.approved_by, one.ticket, one.given_at) for one in result.approvals]
    return printable("\n".join(filter(None, (result.done, table(rows) if result.approvals else "No approvals."))))


def baseline_text(result: BaselineResult) -> str:
    """What was done, and all baselines."""
    rows = [("NAME", "RUN", "STARTED", "TARGET"), *((item.name, item.run_id, item.started_at, item.target) for item in result.baselines)]
    listing = table(rows) if result.baselines else "No baselines.  Keep one: perfloop baseline NAME"
    return printable("\n".join(filter(None, (result.done, listing))))


def verdict_text(verdict: Verdict) -> str:
    """The verdict first, then what it rests on."""
    lines = [f"{verdict.status}: {metric_text(verdict)} {change(verdict.ratio)}"]
    if verdict.before and verdict.after:
        lines.append(
            f"  {estimate(verdict.before)} → {estimate(verdict.after)}"
            if verdict.before.unit in ("", "s")
            else f"  {digits(verdict.before.value)} → {digits(verdict.after.value)} {verdict.before.unit}"
        )
    lines.append(f"  {verdict.proof}, {counted(verdict.pairs, 'pair')} of {seconds(verdict.round_s)}")
    if verdict.fresh_ratio:
        lines.append(f"  on {counted(verdict.fresh_ratio.n or 0, 'fresh pair')}: {change(verdict.fresh_ratio)}")
    if verdict.detectable_ratio:
        lines.append(f"  the smallest change this could have found: {percent(verdict.detectable_ratio - 1, sign=True)}")
    lines += [
        f"  {'kept' if guard.ok else 'BROKEN'}: {guard.metric} {digits(guard.before)} → {digits(guard.after)} {guard.bound}".rstrip()
        for guard in verdict.guards
    ]
    return printable("\n".join(lines + ([f"  {verdict.reason}"] if verdict.reason else [])))


def log_text(result: LogResult) -> str:
    """One line an entry, oldest first; what is wrong with the chain last."""
    rows = []
    for entry in result.entries:
        took = seconds(entry.duration_seconds) if entry.duration_seconds is not None else ""
        rows.append((entry.timestamp, entry.outcome, entry.operation, took, entry.user, entry.command[:100]))
    lines = [table([("TIME", "OUTCOME", "OPERATION", "TOOK", "USER", "COMMAND"), *rows]) if rows else "No entries."]
    if result.problems:
        lines += ["", "the log was changed:", *(f"  {problem}" for problem in result.problems)]
    elif result.verified:
        lines += ["", "the log is whole: every line, its chain, its seal and its end"]
    lines += [f"note: {note}" for note in result.notes]
    if result.verified or result.public_key:
        lines.append(f"anchor {result.anchor}   (keep it elsewhere: perfloop log --verify --anchor …)")
    if result.public_key:
        lines += [f"signature {result.signature}"] * bool(result.signature) + ["", result.public_key.strip()]
    return printable("\n".join(lines))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces; the last one is not padded."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
