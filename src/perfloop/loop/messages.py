"""The context request of other agents, answered from configuration, discovery and the last run; and what they state, kept with its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from perfloop.context.config import LoadedConfig
from perfloop.context.discover import discover
from perfloop.errors import PerfloopError, UsageError
from perfloop.host.files import write_atomic
from perfloop.loop.stored import opened
from perfloop.model.capacity import CapacityPlan
from perfloop.model.messages import ContextMessage, PerformanceContext, Stated
from perfloop.model.requests import ContextRequest
from perfloop.model.result import RunResult
from perfloop.model.run import Summary
from perfloop.model.wording import reason
from perfloop.store.runs import RunStore

FILE_MAX_BYTES = 1 << 20
STATED_FILE = "context.json"
STATED_MAX = 50
M = TypeVar("M", ContextMessage, Stated)
PAINS_MAX, STEPS_MAX = 8, 12


def context(request: ContextRequest, cwd: Path | None) -> PerformanceContext:
    """Answer a context request; with ``state`` first take in what another agent says."""
    loaded, store = opened(request.config, cwd)
    if request.request:
        _read(request.request, ContextMessage)
    if request.state:
        _keep(store, _read(request.state, Stated))
    result = _last(store, request.run)
    return _answer(loaded, result, _stated(store))


def _answer(loaded: LoadedConfig, result: RunResult | None, stated: tuple[Stated, ...]) -> PerformanceContext:
    config, unknown = loaded.config, []
    target = result.target if result else None
    if target is None and config.target.url:
        try:
            target = discover(config, loaded.base_dir)
        except PerfloopError as error:
            unknown.append(f"architecture: {error.what}")
    last = (result.after or result.before) if result else None
    slas = {key: value for key, value in config.slo.model_dump().items() if value is not None}
    rate = (result.throughput_after or result.throughput_before) if result else None
    findings = (result.diagnosis_after or result.diagnosis).findings if result else ()
    if last is None:
        unknown.append("current_metrics: nothing was measured here (perfloop check)")
    if not slas:
        unknown.append("slas: none is configured ([slo] in perfloop.toml)")
    plan = result.capacity_plan if result else None
    if rate is None and not (plan and plan.predicted_per_s):
        unknown.append("scalability_requirements: the highest rate that keeps the SLO was not measured")
    architecture: dict[str, Any] = {}
    if target:
        architecture = {
            "url": target.url,
            "environment": target.environment.value,
            "processes": [" ".join(part for part in (one.runtime, one.runtime_version, one.framework) if part) for one in target.processes],
            "talks_to": [f"{peer.kind.value} at {peer.host}:{peer.port}" for peer in target.peers],
            "cpu_count": target.cpu_count,
            "git_revision": target.git_revision,
        }
    return PerformanceContext(
        run_id=result.run_id if result else "",
        measured_at=result.started_at if result else "",
        slas=slas | ({"checks": [check.model_dump(mode="json") for check in result.slo_checks]} if result and result.slo_checks else {}),
        current_metrics=_metrics(last) if last else {},
        architecture=architecture,
        load_patterns={"busiest_now_per_s": plan.now_per_s, "growth": plan.growth, "source": plan.forecast.source if plan.forecast else ""}
        if plan
        else {"measured_rate_per_s": result.rate_per_s, "source": result.journeys.source if result.journeys else ""}
        if result and last
        else {},
        pain_points=tuple({"rule": f.rule, "confidence": f.confidence.value, "title": f.title, "actor": f.actor} for f in findings[:PAINS_MAX]),
        scalability_requirements=_reach(plan) if plan else {"rate_max_per_s": rate.rate_per_s, "slo": rate.slo, "bounded": rate.bounded} if rate else {},
        stated=stated,
        unknown=tuple(unknown),
    )


_FORM: dict[Any, str] = {tuple[str, ...]: "a list of sentences", dict[str, float | str]: "an object"}


def _reach(plan: CapacityPlan) -> dict[str, Any]:
    """How far it goes by a capacity plan, measured and predicted told apart."""
    return {
        "wanted_per_s": plan.now_per_s * plan.growth,
        "rate_max_per_s": plan.rate_slo.value if plan.rate_slo else None,
        "slo": plan.slo,
        "end_measured_per_s": plan.saturated_per_s.value if plan.saturated_per_s else None,
        "end_predicted_per_s": plan.predicted_per_s.value if plan.predicted_per_s else None,
        "saturates_in_order": [item.resource for item in plan.demands if item.saturates_at_per_s],
    }


def _metrics(summary: Summary) -> dict[str, Any]:
    slowest = sorted(summary.steps, key=lambda step: -(step.p95_s.value if step.p95_s else 0.0))[:STEPS_MAX]
    return {
        step.name: {
            "p50_s": step.p50_s.value if step.p50_s else None,
            "p95_s": step.p95_s.value if step.p95_s else None,
            "p95_low_s": step.p95_s.low if step.p95_s else None,
            "p95_high_s": step.p95_s.high if step.p95_s else None,
            "requests": step.sent,
            "failed": step.sent - step.ok,
        }
        for step in (summary.total.with_(name="all requests"), *slowest)
    }


def _last(store: RunStore, name: str) -> RunResult | None:
    """The run asked for; ``last`` may be missing, a named one may not."""
    if name == "last" and not store.list_runs(1):
        return None
    return store.load_result(name)


def _stated(store: RunStore) -> tuple[Stated, ...]:
    path = store.root / STATED_FILE
    if not path.is_file():
        return ()
    return tuple(Stated.model_validate(item) for item in json.loads(path.read_text())["stated"])


def _keep(store: RunStore, new: Stated) -> None:
    """What one source says replaces what it said before."""
    kept = [one for one in _stated(store) if one.source != new.source][-(STATED_MAX - 1) :]
    store.root.mkdir(parents=True, exist_ok=True)
    body = {"schema_version": 1, "stated": [one.model_dump(mode="json") for one in [*kept, new]]}
    write_atomic(store.root / STATED_FILE, json.dumps(body, ensure_ascii=False, indent=2).encode())


def _read(name: str, model: type[M]) -> M:
    """One JSON object from a file, as ``model``; ``UsageError`` names the field and the bound."""
    path = Path(name)
    try:
        if path.stat().st_size > FILE_MAX_BYTES:
            raise UsageError(f"{name} is larger than {FILE_MAX_BYTES >> 20} MiB", fix="name a file with one JSON object")
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{name} cannot be read", why=error.strerror or str(error), fix="name a file with one JSON object") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the text"
        form = ", ".join(f"{key} ({_FORM.get(field.annotation, 'text')})" for key, field in model.model_fields.items())
        raise UsageError(f"{name} is no {model.__name__}", why=f"{where}: {reason(first)}", fix=f"one JSON object of: {form}") from None
