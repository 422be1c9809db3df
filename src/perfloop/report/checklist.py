"""The two checklists, answered from what the run shows: done, not done, or unknown, never assumed."""

from __future__ import annotations

from typing import Literal

from perfloop.model.result import ChecklistItem, RunResult
from perfloop.model.verdict import Decision, VerdictStatus
from perfloop.report.notice import throughput_gain
from perfloop.report.text import counted, rate, seconds

State = Literal["done", "not done", "unknown"]


def checklist(result: RunResult) -> tuple[ChecklistItem, ...]:
    """Both lists in their fixed order; each item names the run that shows it."""
    items = (_baselines(result), _bottlenecks(result), _load(result), _validated(result), _scalability(result), _resources(result))
    later = (
        _item("monitoring in place", "unknown", "not looked at in this run"),
        _item("documentation updated", "done", f"report of run {result.run_id}"),
        _slas(result),
        _eliminated(result),
        _again("scalability proven", items[4]),
        _again("resources optimised", items[5]),
        _item("monitoring comprehensive", "unknown", "not looked at in this run"),
        _item("documentation complete", "unknown", "perfloop documents its own run; the service's documents it cannot judge"),
        _item("team informed", "unknown", "the delivery notice is written; who reads it cannot be seen from here"),
        _continuing(result),
    )
    return items + later


def _item(name: str, state: State, evidence: str) -> ChecklistItem:
    return ChecklistItem(name=name, state=state, evidence=evidence)


def _again(name: str, item: ChecklistItem) -> ChecklistItem:
    return item.model_copy(update={"name": name})


def _baselines(result: RunResult) -> ChecklistItem:
    name = "baselines established"
    if result.before is None or result.before.total.p95_s is None:
        return _item(name, "not done", "no baseline was measured")
    return _item(name, "done", f"{counted(result.before.windows, 'window')}, p95 {seconds(result.before.total.p95_s.value)}")


def _bottlenecks(result: RunResult) -> ChecklistItem:
    name = "bottlenecks identified"
    if not result.diagnosis.results:
        return _item(name, "not done", "no rule was run")
    found = result.diagnosis.findings
    return _item(
        name,
        "done",
        f"{counted(len(found), 'finding')}, first {found[0].rule}" if found else f"{counted(len(result.diagnosis.results), 'rule')} run, none found one",
    )


def _load(result: RunResult) -> ChecklistItem:
    windows = result.before_windows + result.after_windows
    sent = sum(step.sent for window in windows for step in window.steps)
    return _item("load tests executed", "done" if sent else "not done", f"{counted(sent, 'request')} in {counted(len(windows), 'window')}")


def _validated(result: RunResult) -> ChecklistItem:
    name = "optimisations validated"
    judged = [tried for tried in result.tried if tried.verdict is not None]
    if not judged:
        return _item(name, "not done", "no change was tried")
    kept = [tried for tried in judged if tried.decision == Decision.KEPT]
    proven = all(tried.verdict is not None and tried.verdict.status == VerdictStatus.IMPROVED for tried in kept)
    return _item(name, "done" if proven else "not done", f"{counted(len(judged), 'change')} measured, {len(kept)} kept")


def _scalability(result: RunResult) -> ChecklistItem:
    name = "scalability verified"
    found = result.throughput_after or result.throughput_before
    if found is None:
        return _item(name, "unknown", "the highest rate was not searched")
    if found.rate_per_s is None:
        return _item(name, "not done", "not even the lowest rate kept the SLO")
    return _item(name, "done", f"{rate(found.rate_per_s)} keep {found.slo}" + ("" if found.bounded else "; the end was not reached"))


def _resources(result: RunResult) -> ChecklistItem:
    name = "resource usage optimised"
    gain = result.improvement.get("cpu_per_request")
    if gain is None:
        return _item(name, "unknown", "no proven change of CPU time a request")
    return _item(name, "done" if gain.value > 0 else "not done", f"CPU time a request {gain.value * 100:.0f} % less")


def _slas(result: RunResult) -> ChecklistItem:
    name = "SLAs exceeded"
    known = [check for check in result.slo_checks if check.ok is not None]
    if not known:
        return _item(name, "unknown", "no SLO is configured, or none could be measured")
    missed = [check.name for check in known if not check.ok]
    return _item(name, "not done" if missed else "done", f"missed: {', '.join(missed)}" if missed else f"{counted(len(known), 'SLO')} met")


def _eliminated(result: RunResult) -> ChecklistItem:
    name = "bottlenecks eliminated"
    last = result.diagnosis_after or result.diagnosis
    if not last.results:
        return _item(name, "unknown", "no rule was run")
    left = last.findings
    return _item(
        name, "not done" if left else "done", f"still there: {', '.join(finding.rule for finding in left[:5])}" if left else "the last look found none"
    )


def _continuing(result: RunResult) -> ChecklistItem:
    gained = bool(result.improvement) or throughput_gain(result.throughput_before, result.throughput_after) is not None
    text = "this run is stored; compare the next one with it" if gained else "one run shows no course"
    return _item("improvement continuing", "unknown", text)
