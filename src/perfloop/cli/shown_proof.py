"""Answers of the verbs around proof as text."""

from __future__ import annotations

from perfloop.cli.shown import table
from perfloop.model.replies import ClaimsResult, GateResult, HistoryPoint, HistoryResult, HistorySeries, TryResult
from perfloop.report.gate import gate_facts, gate_line
from perfloop.report.headline import DECISIONS, proof_text
from perfloop.report.text import counted, digits, percent, printable, seconds


def history_text(result: HistoryResult) -> str:
    """The series with their levels, the changes under them, and what would prove them."""
    if not result.series:
        return printable("\n".join(["No history.", *result.notes, f"Next:  {result.next}"]))
    lines = [f"{result.target}  {result.rate_per_s:g} requests/s  {counted(result.runs, 'run')}, oldest first", ""]
    rows = [("FIGURE", "RUNS", "FIRST", "NEWEST", "CHANGES")]
    rows += [
        (one.metric, str(len(one.points)), _value(one, one.points[0].value), _value(one, one.points[-1].value), str(len(one.changes) or "–"))
        for one in result.series
    ]
    lines.append(table(rows))
    for one in result.series:
        for change in one.changes:
            mark = "worse" if change.worse else "better"
            lines += [
                "",
                f"{mark}: {one.metric} {percent(change.ratio - 1, sign=True)}, most likely at {_place(change.at)} (p = {change.p:.3f})",
                f"  after {_place(change.after_run)}, at the latest by {_place(change.by_run)}",
            ]
    lines += ["", *result.notes]
    if result.verdict:
        lines.append(f"Measured: {proof_text(result.verdict)}")
    elif any(one.changes for one in result.series):
        lines.append("A history raises suspicion; it proves nothing.")
    return printable("\n".join(lines + ([f"Next:  {result.next}"] if result.next else []))).rstrip()


def _value(series: HistorySeries, value: float) -> str:
    return seconds(value) if series.unit == "s" else f"{digits(value)} {series.unit}"


def _place(point: HistoryPoint) -> str:
    return f"{point.revision[:12]} ({point.run_id})" if point.revision else point.run_id


def claims_text(result: ClaimsResult, full: bool) -> str:
    """What is wrong first; with ``full`` also what is supported."""
    against = f"against {', '.join(result.runs[:3])}{' …' if len(result.runs) > 3 else ''}" if result.runs else "no run to check against"
    counts = {state: sum(claim.state == state for claim in result.claims) for state in ("supported", "contradicted", "without evidence")}
    lines = [f"{counted(len(result.claims), 'figure')} in {result.file}, {against}: " + ", ".join(f"{count} {state}" for state, count in counts.items())]
    for claim in result.claims:
        if claim.state == "supported" and not full:
            continue
        lines += ["", f"{result.file}:{claim.line}: {claim.figure} is {claim.state}", f"  {claim.sentence}"]
        if claim.truth:
            lines.append(f"  measured: {claim.truth}  ({claim.run_id})")
    return printable("\n".join(lines))


def gate_text(result: GateResult) -> str:
    """The verdict first, then what it rests on."""
    sides = f"{result.candidate[:12] or 'working tree'} against {result.against[:12]}"
    return printable(
        "\n".join(
            [
                gate_line(result),
                f"  {sides}, {counted(result.verdict.pairs, 'pair')} of {seconds(result.verdict.round_s)}",
                *(f"  {fact}" for fact in gate_facts(result)),
            ]
        )
    )


def try_text(result: TryResult) -> str:
    """What became of each candidate, the winner first."""
    lines = [f"against {result.against[:12] if result.against.isalnum() else result.against}:"]
    for one in result.candidates:
        lines.append(f"{DECISIONS[one.decision]}: {one.name}")
        lines += [f"  {proof_text(one.verdict)}"] * (one.verdict is not None) + [f"  {one.reason}"] * bool(one.reason)
        lines += [f"  {command}" for command in one.commands]
    lines += [f"note: {note}" for note in result.notes]
    return printable("\n".join(lines))
