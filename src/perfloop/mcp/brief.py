"""Answers short enough for an agent's context: ids and figures first, details on request."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from perfloop.mcp.jobs import Job
from perfloop.model.base import Estimate
from perfloop.model.capacity import CapacityPlan
from perfloop.model.change import Plan
from perfloop.model.finding import Finding, Outcome
from perfloop.model.query import QueryResult
from perfloop.model.replies import TryResult
from perfloop.model.result import RunResult, Tried
from perfloop.model.run import StepSummary
from perfloop.report.capacity import answer as answer_of
from perfloop.report.headline import headline, next_command, place_text, proof_text

FINDINGS_MAX = 3
SAID_SHOWN = 4
STEPS_MAX = 8
SATURATES_MAX = 4


def context(result: RunResult) -> dict[str, Any]:
    """What is known about a service: what it is, what it promises, how it does, what hurts, how far it goes."""
    last = result.after or result.before
    process = result.target.processes[0] if result.target.processes else None
    rate = result.throughput_after or result.throughput_before
    slowest = sorted(last.steps, key=lambda step: -(step.p95_s.value if step.p95_s else 0.0))[:STEPS_MAX] if last else []
    return {
        "run_id": result.run_id,
        "measured_at": result.started_at,
        "headline": headline(result),
        "target": {
            "url": result.target.url,
            "environment": result.target.environment.value,
            "runtime": f"{process.runtime} {process.runtime_version} {process.framework}".strip() if process else "",
        },
        "architecture": [f"{peer.kind.value} at {peer.host}:{peer.port}" for peer in result.target.peers],
        "slos": [check.model_dump(mode="json") for check in result.slo_checks],
        "metrics": {"all requests": _step(last.total), **{step.name: _step(step) for step in slowest}} if last else {},
        "load": {"rate_per_s": result.rate_per_s, "source": result.journeys.source if result.journeys else ""},
        "pain_points": [{"rule": f.rule, "confidence": f.confidence.value, "title": f.title} for f in _findings(result)],
        "scalability": {"rate_max_per_s": rate.rate_per_s, "slo": rate.slo, "bounded": rate.bounded} if rate else {},
        "could_not_check": [item.probe for item in result.unavailable],
    }


def diagnosis(result: RunResult, full: bool) -> dict[str, Any]:
    """The ranked findings with their evidence, and what could not be told."""
    findings = _findings(result)
    shown = findings if full else findings[:FINDINGS_MAX]
    outcomes = (result.diagnosis_after or result.diagnosis).results
    return {
        "run_id": result.run_id,
        "headline": headline(result),
        "findings": [finding.model_dump(mode="json") if full else _finding(finding) for finding in shown],
        "findings_total": len(findings),
        "clear": sum(item.outcome == Outcome.CLEAR for item in outcomes),
        "could_not_tell": [{"rule": item.rule, "reason": item.reason, "fix": item.fix} for item in outcomes if item.outcome == Outcome.UNKNOWN],
        "changes_tried": [{"title": tried.change.title, "decision": tried.decision.value, "proof": proof_text(tried.verdict)} for tried in result.tried],
        "next": next_command(result),
    }


def job(running: Job) -> dict[str, Any]:
    """A job so far, or its result in short when it is over."""
    answer: dict[str, Any] = {"job": running.id, "state": running.state}
    if running.state == "running":
        return answer | {
            "phase": running.phase,
            "left_s": round(running.left_s) if running.left_s is not None else None,
            "requests": running.requests,
            "p95_s": _number(running.p95_s),
            "said": list(running.said)[-SAID_SHOWN:],
            "next": f"call again with job {running.id} and wait_s 45",
        }
    if isinstance(running.result, RunResult):
        made = running.result.capacity_plan
        return answer | (capacity(running.result, made) if made else outcome(running.result))
    if isinstance(running.result, QueryResult):
        return answer | query(running.result)
    if isinstance(running.result, TryResult):
        return answer | trial(running.result)
    return answer


def outcome(result: RunResult) -> dict[str, Any]:
    """A finished run in short: the sentence, the levels, the causes by name, what became of each change."""
    p95 = [_number(summary.total.p95_s) if summary else None for summary in (result.before, result.after)]
    answer: dict[str, Any] = {
        "run_id": result.run_id,
        "run_state": result.state,
        "headline": headline(result),
        "rate_per_s": result.rate_per_s,
        "p95_before_s": p95[0],
        "slos": [{"name": check.name, "ok": check.ok} for check in result.slo_checks],
        "findings": [f"{f.rule} ({f.confidence.value}): {f.title}" for f in _findings(result)[:FINDINGS_MAX]],
        "next": f"perf_diagnose with run {result.run_id}",
    }
    if result.tried:
        answer |= {"p95_after_s": p95[1], "delivery_notice": result.delivery_notice, "changes": [_tried(tried) for tried in result.tried]}
        answer["next"] = "perf_rollback with a change's id undoes it; perf_measure measures again"
    return answer


def capacity(result: RunResult, made: CapacityPlan) -> dict[str, Any]:
    """How far it goes, what ends it in which order, the cheapest option, and what is unknown."""
    ends = [d for d in made.demands if d.saturates_at_per_s]
    chosen = next((option for option in made.options if option.chosen), None)
    return {
        "run_id": result.run_id,
        "run_state": result.state,
        "answer": answer_of(made),
        "slo": made.slo,
        "rate_under_slo_per_s": _number(made.rate_slo),
        "end_predicted_per_s": _number(made.predicted_per_s),
        "end_measured_per_s": _number(made.saturated_per_s),
        "saturates_in_order": [{"resource": d.resource, "at_per_s": _number(d.saturates_at_per_s)} for d in ends[:SATURATES_MAX]],
        "wanted_per_s": made.now_per_s * made.growth,
        "option": {"title": chosen.title, "per_month": chosen.cost_per_month, "changes": list(chosen.changes)} if chosen else None,
        "right_size": made.right_size.model_dump(mode="json") if made.right_size else None,
        "unknown": list(made.unknown[:SATURATES_MAX]),
        "next": f"resource perf://reports/{result.run_id} has all options, the autoscaling policy, alerts and dates",
    }


def trial(result: TryResult) -> dict[str, Any]:
    """What became of each candidate, winner first, with its proof and how to take it or take it back."""
    rows = [
        {
            "name": one.name,
            "decision": one.decision.value,
            "reason": one.reason,
            **({"proof": proof_text(one.verdict)} if one.verdict else {}),
            "commands": list(one.commands),
        }
        for one in result.candidates
    ]
    return {"against": result.against, "candidates": rows, "next": "the commands of a kept candidate take it; nothing else was left behind"}


def query(result: QueryResult) -> dict[str, Any]:
    """The causes of a slow query with their fixes, and where its time goes."""
    seen = result.evidence
    return {
        "query": seen.text[:400],
        "time_ms": _number(result.time_now),
        "time_ratio_now_to_then": result.time_ratio,
        "then": {"snapshot": seen.then_name, "at": seen.then_at} if seen.then_name else None,
        "plan_changed": seen.plan_changed,
        "where": {name: round(share, 3) for name, share in result.where.items()},
        "causes": [_finding(cause) for cause in result.causes[:FINDINGS_MAX]],
        "why_none": result.why_none,
        "fixes": [
            {"title": fix.title, "statement": fix.statement[:300], "cost_before": fix.cost_before, "cost_after": fix.cost_after}
            for fix in result.fixes[:FINDINGS_MAX]
        ],
        "next": "a person, or perfloop query … --fix, applies a fix and proves it" if result.fixes else "perf_measure shows what else the service waits for",
    }


def _tried(tried: Tried) -> dict[str, Any]:
    said: dict[str, Any] = {"change": tried.change.id, "title": tried.change.title, "decision": tried.decision.value}
    said |= {"proof": proof_text(tried.verdict)} if tried.verdict else {}
    return said | ({"reason": tried.reason} if tried.reason else {})


def plan_hash(made: Plan) -> str:
    """What names exactly this plan: whoever applies it says which one was read."""
    return sha256(made.model_dump_json().encode()).hexdigest()[:16]


def plan(made: Plan) -> dict[str, Any]:
    """Each change with its diff, risk and undo; nothing has been applied."""
    changes = [
        {
            "id": item.id, "kind": item.kind, "title": item.title, "answers": item.finding, "safety": item.safety.value, "risk": item.risk, "reach": item.reach, "diff": item.diff,
            "undo": list(item.undo_commands), "expected_gain_s": _number(made.expected_gain.get(item.id)),
        }
        for item in made.changes
    ]  # fmt: skip
    return {
        "plan_id": made.id,
        "plan_hash": plan_hash(made),
        "run_id": made.run_id,
        "target": made.target_url,
        "changes": changes,
        "next": f"perf_apply with plan_id and plan_hash, where it is offered; else a person runs: perfloop apply {made.id}" if changes else "nothing to change",
    }


def _findings(result: RunResult) -> tuple[Finding, ...]:
    return (result.diagnosis_after or result.diagnosis).findings


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule, "confidence": finding.confidence.value, "title": finding.title, "place": place_text(finding.place), "steps": list(finding.steps), "win_back_s": _number(finding.win_back_s),
        "evidence": list(finding.evidence[:3]), "fix": finding.fix, "disproof": finding.disproof, "actor": finding.actor,
    }  # fmt: skip


def _step(step: StepSummary) -> dict[str, Any]:
    return {"p50_s": _number(step.p50_s), "p95_s": _number(step.p95_s), "p99_s": _number(step.p99_s), "sent": step.sent, "failed": step.sent - step.ok}


def _number(value: Estimate | None) -> dict[str, float | None] | None:
    return None if value is None else {"value": value.value, "low": value.low, "high": value.high}
