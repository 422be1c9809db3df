"""Markdown for a pull request: a hidden marker for sticky updates, the verdict, what was changed, what is left, and the rest in folds."""

from __future__ import annotations

import re

from perfloop.model.finding import Outcome
from perfloop.model.result import RunResult
from perfloop.model.run import StepSummary
from perfloop.report import capacity, loadtest
from perfloop.report.headline import DECISIONS, gain_text, headline, next_command, place_text, proof_text, slo_text
from perfloop.report.text import estimate, percent, printable, rate

ID = "markdown"
EXTENSION = "md"

MARKER = "<!-- perfloop -->"
SIZE_MAX = 60_000  # of a comment on the usual forges: 65,536
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~])")


def escape(text: str) -> str:
    """Text that Markdown and HTML leave alone, on one line."""
    return _SPECIAL.sub(r"\\\1", printable(text).replace("\n", " ").replace("\r", " ")).replace("\\<", "&lt;").replace("\\>", "&gt;")


def code(text: str) -> str:
    """Text as inline code, whatever backticks are in it."""
    text = printable(text).replace("\n", " ").replace("|", "¦")
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def render(result: RunResult) -> str:
    """The document, cut at a size that a comment can hold."""
    parts = [MARKER, f"**{escape(headline(result))}**", ""]
    parts += (
        _commands(result)
        + _slos(result)
        + _load_test(result)
        + _capacity(result)
        + _numbers(result)
        + _changes(result)
        + _findings(result)
        + _gaps(result)
        + _method(result)
    )
    text = "\n".join(parts) + "\n"
    return text if len(text) <= SIZE_MAX else text[:SIZE_MAX].rsplit("\n", 1)[0] + "\n\n…cut; the whole report is in report.html\n"


def _commands(result: RunResult) -> list[str]:
    return ["Run by hand, now:", "", "```sh", *(printable(command) for command in result.commands), "```", ""] if result.commands else []


def _slos(result: RunResult) -> list[str]:
    return [f"- SLO {escape(slo_text(check))}" for check in result.slo_checks] + [""] * bool(result.slo_checks)


def _capacity(result: RunResult) -> list[str]:
    if result.capacity_plan is None:
        return []
    parts = []
    for table in capacity.tables(result.capacity_plan):
        head = f"| {' | '.join(table.head)} |\n|{'---|' * len(table.head)}"
        rows = [f"| {' | '.join(escape(cell) for cell in row)} |" for row in table.rows]
        parts.append(f"## {table.title}\n\n{escape(table.hint)}\n\n" + "\n".join([head, *rows]) + "\n")
    unknown = "".join(f"- {escape(item)}\n" for item in result.capacity_plan.unknown)
    return parts + ([f"## Unknown\n\n{unknown}"] if unknown else [])


def _load_test(result: RunResult) -> list[str]:
    if result.load_test is None:
        return []
    signs = {True: "✓", False: "✗", None: "·"}
    rows = [f"- {signs[ok]} {escape(line)}" for ok, line in loadtest.lines(result.load_test)]
    levels = [f"| {' | '.join(row)} |" for row in loadtest.level_rows(result.load_test)]
    table = ["", "| level | throughput | mean | p95 | errors |", "|---|---|---|---|---|", *levels] if levels else []
    return [*rows, *table, ""]


def _numbers(result: RunResult) -> list[str]:
    if result.before is None:
        return []
    after = {step.name: step for step in result.after.steps} if result.after else {}
    rows = [_row("all requests", result.before.total, result.after.total if result.after else None)]
    rows += [_row(step.name, step, after.get(step.name)) for step in result.before.steps]
    head = ["| | p50 | p95 | p99 |", "|---|---|---|---|"]
    if len(rows) <= 2:
        return [*head, *rows[:1], ""]
    return [*head, rows[0], "", "<details><summary>By endpoint</summary>", "", *head, *rows[1:], "", "</details>", ""]


def _row(name: str, before: StepSummary, after: StepSummary | None) -> str:
    cells = []
    for key in ("p50_s", "p95_s", "p99_s"):
        first = estimate(getattr(before, key))
        cells.append(first if after is None else f"{first} → {estimate(getattr(after, key))}")
    return f"| {escape(name)} | {' | '.join(cells)} |"


def _changes(result: RunResult) -> list[str]:
    lines = ["### Changes", ""] if result.tried else []
    for tried in result.tried:
        lines.append(f"- **{DECISIONS[tried.decision]}**: {escape(tried.change.title)}")
        lines += [f"  {escape(proof_text(tried.verdict))}"] if tried.verdict else []
        lines += [f"  {escape(tried.reason)}"] if tried.reason else []
        lines += [f"  undo: {code(command)}" for command in tried.change.undo_commands]
    return lines + [""] * bool(lines)


def _findings(result: RunResult) -> list[str]:
    diagnosis = result.diagnosis_after or result.diagnosis
    lines = ["### Still there" if result.diagnosis_after else "### Findings", ""] if diagnosis.findings else []
    for number, finding in enumerate(diagnosis.findings, 1):
        lines.append(f"{number}. **{finding.rule}** ({finding.confidence}): {escape(finding.title)}")
        facts = [gain_text(finding), *finding.evidence, f"fix: {finding.fix}" if finding.fix else "", f"for: {finding.actor}"]
        lines += [f"   - {escape(text)}" for text in facts if text]
        if place := place_text(finding.place):
            lines.append(f"   - {code(place)}")
    return lines + [""] * bool(lines)


def _gaps(result: RunResult) -> list[str]:
    gaps = [(item.probe, item.reason, item.fix) for item in result.unavailable]
    gaps += [(item.rule, item.reason, item.fix) for item in result.diagnosis.results if item.outcome == Outcome.UNKNOWN]
    if not gaps:
        return []
    rows = [f"- {escape(name)}: {escape(reason)}{f' (fix: {code(fix)})' if fix else ''}" for name, reason, fix in gaps]
    return [f"<details><summary>Could not check: {len(gaps)}</summary>", "", *rows, "", "</details>", ""]


def _method(result: RunResult) -> list[str]:
    facts = [f"run {result.run_id}, {result.started_at}, {result.target.environment}, {result.target.url}"]
    if result.before:
        noise = f", noise {percent(result.before.noise_cv)}" if result.before.noise_cv is not None else ""
        facts.append(f"{result.before.windows} windows of {result.before.window_s:g} s at {rate(result.rate_per_s)}, {result.before.arrivals}{noise}")
    facts += list(result.notes)
    rows = [f"- {escape(fact)}" for fact in facts]
    after = [result.delivery_notice, ""] if result.delivery_notice and result.kind == "improve" else []
    return [*after, "<details><summary>Method and environment</summary>", "", *rows, "", "</details>", "", f"Next: {code(next_command(result))}"]
