"""The summary for a terminal: verdict first, then numbers with their intervals, changes with their proof, findings, gaps, and one next command."""

from __future__ import annotations

from perfloop.model.finding import Diagnosis, Finding, Outcome
from perfloop.model.result import RunResult, Tried
from perfloop.model.run import StepSummary
from perfloop.model.verdict import Decision
from perfloop.report import capacity, loadtest
from perfloop.report.headline import DECISIONS, gain_text, headline, next_command, place_text, proof_text, slo_text
from perfloop.report.text import interval, percent, printable, rate, seconds

ID = "terminal"
EXTENSION = "txt"

FINDINGS_SHOWN = 5
EVIDENCE_SHOWN = 3
PART_MIN = 0.04  # of the whole: a part that is less is not shown by itself
_GREEN, _RED, _DIM, _BOLD = "32", "31", "2", "1"
_DECISION_COLOR = {Decision.KEPT: _GREEN, Decision.STUCK: _RED, Decision.FAILED: _RED}


class _Page:
    """Lines, painted or not."""

    def __init__(self, color: bool) -> None:
        self.lines: list[str] = []
        self._color = color

    def add(self, text: str = "", indent: int = 0) -> None:
        self.lines.append(" " * indent + printable(text).replace("\n", "\n" + " " * indent) if text else "")

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{printable(text)}\x1b[0m" if self._color and code else printable(text)

    def raw(self, text: str) -> None:
        self.lines.append(text)


def render(result: RunResult, color: bool = False, full: bool = False) -> str:
    """The summary as text; ``full`` shows all endpoints, findings and evidence."""
    page = _Page(color)
    page.raw(page.paint(headline(result), _BOLD))
    page.add(_where(result), 2)
    _numbers(page, result, full)
    for check in result.slo_checks:
        page.raw("  SLO  " + page.paint(slo_text(check), _RED if check.ok is False else _GREEN if check.ok else ""))
    _load_test(page, result)
    _capacity(page, result)
    _changes(page, result)
    _breakdown(page, result, full)
    _findings(page, result, full)
    _gaps(page, result)
    _end(page, result)
    return "\n".join(page.lines) + "\n"


def _where(result: RunResult) -> str:
    windows = (
        f", {result.before.windows} windows of {seconds(result.before.window_s)} at {rate(result.rate_per_s)}, {result.before.arrivals}"
        if result.before
        else ""
    )
    return f"{result.kind} {result.target.url}  run {result.run_id}, {result.target.environment}{windows}"


def _numbers(page: _Page, result: RunResult, full: bool) -> None:
    if result.before is None:
        return
    page.add()
    steps: list[tuple[str, StepSummary, StepSummary | None]] = [("all requests", result.before.total, result.after.total if result.after else None)]
    after = {step.name: step for step in result.after.steps} if result.after else {}
    ranked = sorted(result.before.steps, key=lambda step: -(step.p95_s.value if step.p95_s else 0))
    steps += [(step.name, step, after.get(step.name)) for step in (ranked if full else ranked[:3])] if len(ranked) > 1 else []
    rows = [
        [name, *(f"p{q} {_pair(getattr(before, f'p{q}_s'), getattr(then, f'p{q}_s') if then else None)}" for q in (50, 95, 99))] for name, before, then in steps
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        page.add("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), 2)
    p95 = result.after.total.p95_s if result.after else result.before.total.p95_s
    if span := interval(p95):
        before_span = f"{interval(result.before.total.p95_s)} → " if result.after else ""
        page.raw("  " + page.paint(f"p95 of all requests, 95 % interval: {before_span}{span}", _DIM))
    _levels(page, result)


def _pair(before: object, after: object) -> str:
    first, last = getattr(before, "value", None), getattr(after, "value", None)
    return seconds(first) if after is None else f"{seconds(first)} → {seconds(last)}"


def _levels(page: _Page, result: RunResult) -> None:
    assert result.before is not None
    last = result.after or result.before
    failed = last.total.sent - last.total.ok
    parts = [f"errors {failed} of {last.total.sent:,}"]
    if last.noise_cv is not None:
        parts.append(f"noise {percent(last.noise_cv)} between windows")
    first, then = result.throughput_before, result.throughput_after
    if first is not None:
        levels = f"{rate(first.rate_per_s)} → {rate(then.rate_per_s)}" if then else rate(first.rate_per_s)
        reached = "" if (then or first).bounded else " (the end was not reached)"
        parts.append(f"highest rate that keeps {first.slo}: {levels}{reached}")
    page.add("   ".join(parts), 2)


def _load_test(page: _Page, result: RunResult) -> None:
    if result.load_test is None:
        return
    page.add()
    for ok, line in loadtest.lines(result.load_test):
        mark = {True: ("yes ", _GREEN), False: ("NO  ", _RED), None: ("·   ", _DIM)}[ok]
        page.raw("  " + page.paint(mark[0], mark[1]) + printable(line))
    rows = [("level", "throughput", "mean", "p95", "errors"), *loadtest.level_rows(result.load_test)]
    if len(rows) > 1:
        page.add()
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        for row in rows:
            page.add("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)), 2)


def _capacity(page: _Page, result: RunResult) -> None:
    if result.capacity_plan is None:
        return
    for table in capacity.tables(result.capacity_plan):
        page.add()
        page.raw(page.paint(table.title, _BOLD))
        page.raw("  " + page.paint(table.hint, _DIM))
        rows = [table.head, *table.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(table.head))]
        for number, row in enumerate(rows):
            cells = [cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(zip(row[:-1], widths, strict=False))]
            page.raw(f"{'* ' if number - 1 in table.marked else '  '}{printable('  '.join([*cells, row[-1]])).rstrip()}")
    if result.capacity_plan.unknown:
        page.add()
        page.raw(page.paint("Unknown", _BOLD))
        for item in result.capacity_plan.unknown:
            page.add(item, 2)


def _changes(page: _Page, result: RunResult) -> None:
    if not result.tried:
        return
    page.add()
    page.raw(page.paint("Changes", _BOLD))
    width = max(len(DECISIONS[tried.decision]) for tried in result.tried)
    for tried in result.tried:
        page.raw(f"  {page.paint(DECISIONS[tried.decision].ljust(width), _DECISION_COLOR.get(tried.decision, ''))}  {printable(tried.change.title)}")
        for line in _why(tried):
            page.add(line, width + 4)


def _why(tried: Tried) -> list[str]:
    lines = [proof_text(tried.verdict)] if tried.verdict else []
    if tried.reason:
        lines.append(tried.reason)
    if tried.decision == Decision.KEPT and tried.change.undo_commands:
        lines.append(f"undo: perfloop rollback {tried.change.id}")
    return lines


def _breakdown(page: _Page, result: RunResult, full: bool) -> None:
    """Where the time of the dearest endpoint goes; of all with ``full``."""
    found = result.breakdown_after or result.breakdown
    if not found:
        return
    page.add()
    page.raw(page.paint("Where the time goes, under load", _BOLD))
    for one in found if full else found[:1]:
        tail = f"; the slowest 5 % {seconds(one.tail_mean_s)}" if one.tail_mean_s is not None else ""
        page.add(f"{one.step}: mean {seconds(one.mean_s)} of {one.requests} requests{tail}", 2)
        parts = [
            part
            for part in one.parts
            if full or part.kind == "unexplained" or abs(part.mean_s) >= PART_MIN * one.mean_s or (part.tail_s or 0.0) >= PART_MIN * (one.tail_mean_s or 1e9)
        ]
        rest = one.mean_s - sum(part.mean_s for part in parts), (one.tail_mean_s or 0.0) - sum(part.tail_s or 0.0 for part in parts)
        rows = [(part.mean_s, part.tail_s, part.what) for part in parts]
        if abs(rest[0]) > 1e-9 or abs(rest[1]) > 1e-9:
            rows.insert(-1, (rest[0], rest[1] if one.tail_mean_s is not None else None, f"{len(one.parts) - len(parts)} smaller parts"))
        for mean_s, tail_s, what in rows:
            page.add(f"{seconds(mean_s):>9}{seconds(tail_s) if tail_s is not None else '':>10}  {what}", 4)


def _findings(page: _Page, result: RunResult, full: bool) -> None:
    diagnosis = result.diagnosis_after or result.diagnosis
    if not diagnosis.results and not diagnosis.findings:
        return
    page.add()
    title = "Still there" if result.diagnosis_after else "Findings"
    page.raw(page.paint(f"{title}, most time to win back first" if diagnosis.findings else f"{title}: none", _BOLD))
    for number, finding in enumerate(diagnosis.findings if full else diagnosis.findings[:FINDINGS_SHOWN], 1):
        _finding(page, number, finding, full)
    if not full and len(diagnosis.findings) > FINDINGS_SHOWN:
        page.add(f"and {len(diagnosis.findings) - FINDINGS_SHOWN} more: -v, or the report", 2)
    page.raw("  " + page.paint(_counts(diagnosis), _DIM))


def _finding(page: _Page, number: int, finding: Finding, full: bool) -> None:
    page.raw(f"  {number}. {page.paint(finding.rule, _BOLD)} ({finding.confidence})  {printable(finding.title)}")
    lines = [text for text in (gain_text(finding), place_text(finding.place)) if text]
    lines += finding.evidence if full else finding.evidence[: EVIDENCE_SHOWN if number == 1 else 1]
    lines += [f"fix: {finding.fix}"] * bool(finding.fix)
    for line in lines:
        page.add(line, 5)


def _counts(diagnosis: Diagnosis) -> str:
    names = {Outcome.CLEAR: "clear", Outcome.RULED_OUT: "ruled out by experiment", Outcome.NOT_APPLICABLE: "not applicable", Outcome.UNKNOWN: "could not tell"}
    counts = {text: sum(item.outcome == outcome for item in diagnosis.results) for outcome, text in names.items()}
    return "rules: " + (", ".join(f"{count} {text}" for text, count in counts.items() if count) or "none besides")


def _gaps(page: _Page, result: RunResult) -> None:
    gaps = [(item.probe, item.reason, item.fix) for item in result.unavailable]
    gaps += [(item.rule, item.reason, item.fix) for item in result.diagnosis.results if item.outcome == Outcome.UNKNOWN and item.fix]
    if gaps:
        page.add()
        page.raw(page.paint("Could not check", _BOLD))
    for name, reason, fix in gaps:
        page.add(f"{name}: {reason}", 2)
        if fix:
            page.add(f"fix: {fix}", 4)


def _end(page: _Page, result: RunResult) -> None:
    if result.commands:
        page.add()
        page.raw(page.paint("Run by hand, now:", _RED))
        for command in result.commands:
            page.add(command, 2)
    if result.delivery_notice and result.kind == "improve":
        page.add()
        page.add(result.delivery_notice)
    page.add()
    if command := next_command(result):
        page.raw(f"Next:    {page.paint(command, _BOLD)}")
    page.add(f"Report:  .perfloop/runs/{result.run_id}/report.html")
