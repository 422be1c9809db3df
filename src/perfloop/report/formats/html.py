"""The report as one offline file: template, style and script are inlined, everything that came from the service is escaped, and the page forbids all network access."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from perfloop.model.finding import Diagnosis, Outcome, RuleResult
from perfloop.model.result import RunResult
from perfloop.report import capacity as plan
from perfloop.report import charts, headline, loadtest, text
from perfloop.report.flame_svg import flame_change_svg, flame_svg
from perfloop.report.tiles import tiles

ID = "html"
EXTENSION = "html"


def render(result: RunResult) -> str:
    """The page."""
    style, script = assets()
    histograms = charts.arms(result.before, result.after)
    return _environment().get_template("report.html.j2").render(
        r=result,
        style=Markup(style),  # noqa: S704 - our own files, no input
        script=Markup(script),  # noqa: S704
        csp=content_policy(),
        headline=headline.headline(result),
        tiles=tiles(result),
        steps=_steps(result),
        bars=charts.time_bars(result.before, result.after),
        distribution=charts.distribution(histograms),
        percentiles=charts.percentiles(histograms),
        flames=_flames(result),
        flame_change=flame_change_svg(result.flame_change, result.target.source_root),
        capacity=charts.capacity(result.capacity) if result.capacity else "",
        load_lines=loadtest.lines(result.load_test) if result.load_test else [],
        load_levels=loadtest.level_rows(result.load_test) if result.load_test else [],
        timeline=loadtest.timeline(result.load_test) if result.load_test else "",
        plan_tables=plan.tables(result.capacity_plan) if result.capacity_plan else [],
        plan_latency=plan.latency(result.capacity_plan, result.slo.latency_p95_ms) if result.capacity_plan else "",
        plan_played=plan.played(result.capacity_plan) if result.capacity_plan else [],
        by_outcome=_by_outcome(result.diagnosis_after or result.diagnosis),
        next_command=headline.next_command(result),
    )  # fmt: skip


@cache
def assets() -> tuple[str, str]:
    """The style sheet and the script, as they stand in the page."""
    folder = files("perfloop.report") / "templates"
    return (folder / "report.css").read_text(encoding="utf-8"), (folder / "report.js").read_text(encoding="utf-8")


@cache
def content_policy() -> str:
    """The Content-Security-Policy of the page: only its own style and script, by their hashes; no network at all."""
    style, script = (b64encode(sha256(part.encode()).digest()).decode() for part in assets())
    return f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src data:; base-uri 'none'; form-action 'none'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("perfloop.report", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for name in ("seconds", "estimate", "interval", "percent", "change", "share", "rate", "counted", "digits", "printable", "tight"):
        environment.filters[name] = getattr(text, name)
    for name in ("slo_text", "bound_text", "place_text", "gain_text", "proof_text", "metric_text"):
        environment.filters[name] = getattr(headline, name)
    environment.filters["diff_lines"] = diff_lines
    environment.filters["pairs"] = charts.pairs
    environment.globals["decisions"] = headline.DECISIONS
    return environment


def diff_lines(diff: str) -> list[dict[str, str]]:
    """The lines of a diff with the class by which each is drawn."""
    kinds = {"+": "add", "-": "del", "@": "at"}
    return [{"text": line, "kind": "at" if line.startswith(("+++", "---")) else kinds.get(line[:1], "")} for line in diff.splitlines()]


def _steps(result: RunResult) -> list[dict[str, Any]]:
    if result.before is None:
        return []
    after = {step.name: step for step in result.after.steps} if result.after else {}
    ranked = sorted(result.before.steps, key=lambda step: -(step.p95_s.value if step.p95_s else 0.0))
    return [{"before": step, "after": after.get(step.name)} for step in ranked]


def _flames(result: RunResult) -> list[dict[str, Any]]:
    graphs = (("before", result.flame_before), ("after", result.flame_after))
    root = result.target.source_root
    return [{"name": name, "svg": flame_svg(graph, root), "total": graph.value} for name, graph in graphs if graph is not None and graph.value > 0]


def _by_outcome(diagnosis: Diagnosis) -> dict[str, list[RuleResult]]:
    return {outcome.value: [item for item in diagnosis.results if item.outcome == outcome] for outcome in Outcome}
