"""A gate's answer for CI: JUnit XML, and Markdown for the pull request with a marker for sticky updates and only what moved."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring  # writes only, nothing foreign is parsed

from perfloop.model.replies import GateResult
from perfloop.model.verdict import Guard, VerdictStatus
from perfloop.report.formats.markdown import escape
from perfloop.report.headline import metric_text
from perfloop.report.text import change, digits, percent, printable, seconds

MARKER = "<!-- perfloop gate -->"
_FAILS = {VerdictStatus.REGRESSED: "failure", VerdictStatus.INVALID: "error", VerdictStatus.INCONCLUSIVE: "skipped"}
_SAID = {True: "kept", False: "BROKEN", None: "undecided"}


def gate_line(result: GateResult) -> str:
    """The verdict in one line."""
    verdict = result.verdict
    levels = f", {seconds(verdict.before.value)} → {seconds(verdict.after.value)}" if verdict.before and verdict.after else ""
    return f"{verdict.status}: {metric_text(verdict)} {change(verdict.ratio)}{levels}, {verdict.pairs} pairs, interleaved"


def gate_facts(result: GateResult) -> list[str]:
    """What stands beside the verdict: reasons, guards that failed, budgets, answers."""
    verdict = result.verdict
    facts = [verdict.reason] if verdict.reason else []
    if verdict.detectable_ratio and verdict.status == VerdictStatus.INCONCLUSIVE:
        facts.append(f"the smallest change this could have found: {percent(verdict.detectable_ratio - 1, sign=True)}")
    facts += [
        f"{guard.metric} got worse: {_level(guard, guard.before)} → {_level(guard, guard.after)}, {guard.bound}" for guard in verdict.guards if not guard.ok
    ]
    facts += [f"budget {_SAID[check.ok]}: {check.name} {check.bound}, measured {check.measured}" for check in result.budgets]
    facts += [f"answers differ: {text}" for text in result.differing_answers]
    return facts + list(result.notes)


def _level(guard: Guard, value: float) -> str:
    return seconds(value) if guard.metric.startswith(("p95", "p99", "CPU")) else percent(value) if guard.metric == "error rate" else digits(value)


def gate_markdown(result: GateResult) -> str:
    """The comment: the verdict, then only what moved, broke or could not be decided."""
    lines = [MARKER, f"**perfloop: {escape(gate_line(result))}**", ""]
    lines += [f"- {escape(fact)}" for fact in gate_facts(result) if not fact.startswith("budget kept")]
    kept = sum(check.ok is True for check in result.budgets)
    lines += [f"- {kept} of {len(result.budgets)} budgets kept"] if result.budgets else []
    candidate = result.candidate[:12] or "working tree"
    lines += ["", f"`{candidate}` against `{result.against[:12]}`, the same arrivals on both in random order, on one machine"]
    return "\n".join(lines) + "\n"


def gate_junit(result: GateResult) -> str:
    """One case for the comparison, and one for each guard and budget."""
    suite = Element("testsuite", name="perfloop gate")
    case = SubElement(suite, "testcase", classname="perfloop.gate", name=printable(metric_text(result.verdict)))
    if mark := _FAILS.get(result.verdict.status):
        SubElement(case, mark, message=printable(gate_line(result)))
    for guard in result.verdict.guards:
        case = SubElement(suite, "testcase", classname="perfloop.guard", name=printable(guard.metric))
        if not guard.ok:
            SubElement(case, "failure", message=printable(f"{guard.before:g} to {guard.after:g}, {guard.bound}"))
    for check in result.budgets:
        case = SubElement(suite, "testcase", classname="perfloop.budget", name=printable(f"{check.name} {check.bound}"))
        if check.ok is not True:
            SubElement(case, "failure" if check.ok is False else "skipped", message=printable(f"measured {check.measured}"))
    for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("tests", str(len(suite)))
    root = Element("testsuites")
    root.append(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"
