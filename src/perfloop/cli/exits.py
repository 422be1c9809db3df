"""From an answer to an exit code."""

from __future__ import annotations

from perfloop.model.exit_codes import FINE, INCONCLUSIVE, INTERRUPTED, NO, NOT_MEASURED, STUCK
from perfloop.model.replies import GateResult
from perfloop.model.result import RunResult
from perfloop.model.verdict import Decision, Verdict, VerdictStatus


def of_run(result: RunResult, strict: bool = False) -> int:
    """A stuck undo weighs most, then an interruption, then a failure to measure, then the answer itself."""
    if result.commands or any(tried.decision == Decision.STUCK for tried in result.tried):
        return STUCK
    if result.state == "interrupted":
        return INTERRUPTED
    if result.state == "failed":
        return NOT_MEASURED
    if not result.ok or any(check.ok is False for check in result.slo_checks):
        return NO
    return NO if strict and _inconclusive(result) else FINE


def of_verdict(verdict: Verdict, strict: bool = False) -> int:
    """A regression is a no; an invalid comparison has not measured."""
    if verdict.status == VerdictStatus.INVALID:
        return NOT_MEASURED
    if verdict.status == VerdictStatus.REGRESSED:
        return NO
    return NO if strict and verdict.status == VerdictStatus.INCONCLUSIVE else FINE


def of_gate(result: GateResult) -> int:
    """A regression or a broken budget is a no; what could not be settled is neither yes nor no."""
    if result.verdict.status == VerdictStatus.INVALID:
        return NOT_MEASURED
    if not result.ok:
        return NO
    unsure = result.verdict.status == VerdictStatus.INCONCLUSIVE or any(check.ok is None for check in result.budgets)
    return INCONCLUSIVE if unsure else FINE


def _inconclusive(result: RunResult) -> bool:
    verdicts = (tried.verdict for tried in result.tried if tried.verdict is not None)
    if result.load_test is not None and result.load_test.ok is None:
        return True
    return any(check.ok is None for check in result.slo_checks) or any(v.status == VerdictStatus.INCONCLUSIVE for v in verdicts)
