"""Prometheus rules for the SLO and for what saturates first: multi-window burn rates (Google SRE Workbook, chapter 5), and the Grafana dashboard beside them.

The metric names are those of the usual HTTP instrumentation (``http_requests_total`` with ``status``, ``http_request_duration_seconds_bucket``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from perfloop.model.capacity import Demand
from perfloop.model.result import Slo

#: severity, long window, short window, how many times faster than allowed the budget burns, share of a 30-day budget that has burnt by then
BURNS = (("page", "1h", "5m", 14.4, "2 %"), ("page", "6h", "30m", 6.0, "5 %"), ("ticket", "1d", "2h", 3.0, "10 %"), ("ticket", "3d", "6h", 1.0, "10 %"))
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
ERROR_BUDGET = 0.01
WARN_SHARE, PAGE_SHARE = 0.7, 0.85


def objectives(slo: Slo, job: str) -> list[tuple[str, float, str]]:
    """(name, budget as a share of requests, expression of the bad share over ``$window``) of each promise."""
    chosen = f'job="{job}"'
    all_requests = f"sum(rate(http_requests_total{{{chosen}}}[$window]))"
    budget = slo.error_rate_max or ERROR_BUDGET
    found = [("errors", budget, f'sum(rate(http_requests_total{{{chosen},status=~"5.."}}[$window])) / {all_requests}')]
    for name, bound_ms, share in (("latency_p95", slo.latency_p95_ms, 0.05), ("latency_p99", slo.latency_p99_ms, 0.01)):
        if bound_ms is not None:
            within = f'sum(rate(http_request_duration_seconds_bucket{{{chosen},le="{bound_ms / 1000:g}"}}[$window]))'
            found.append((name, share, f"1 - {within} / sum(rate(http_request_duration_seconds_count{{{chosen}}}[$window]))"))
    return found


def rules(slo: Slo, job: str, rate_slo_per_s: float | None, demands: Sequence[Demand]) -> str:
    """A rules file as YAML: recordings of the bad share, burn-rate alerts, and a warning before the measured end of the capacity."""
    groups: list[dict[str, Any]] = []
    for name, budget, expression in objectives(slo, job):
        record = f"slo:{name}:bad_share"
        recordings = [{"record": f"{record}_{window}", "expr": expression.replace("$window", window), "labels": {"job": job}} for window in WINDOWS]
        alerts = [_burn(name, job, record, budget, *burn) for burn in BURNS]
        groups.append({"name": f"slo-{name.replace('_', '-')}", "rules": [*recordings, *alerts]})
    capacity = _capacity(job, rate_slo_per_s, demands)
    if capacity:
        groups.append({"name": "capacity", "rules": capacity})
    return "# Written by perfloop capacity. The bucket of each latency promise (le) must exist in your histogram.\n" + yaml({"groups": groups})


def _burn(name: str, job: str, record: str, budget: float, severity: str, long: str, short: str, factor: float, share: str) -> dict[str, Any]:
    limit = min(0.999, factor * budget)
    return {
        "alert": f"{''.join(part.title() for part in name.split('_'))}BudgetBurn",
        "expr": f'{record}_{long}{{job="{job}"}} > {limit:.6g} and {record}_{short}{{job="{job}"}} > {limit:.6g}',
        "labels": {"severity": severity, "window": long},
        "annotations": {"summary": f"{job}: {share} of the 30-day budget of {name.replace('_', ' ')} burns within {long} (over {limit:.2%} bad)"},
    }


def _capacity(job: str, rate_slo_per_s: float | None, demands: Sequence[Demand]) -> list[dict[str, Any]]:
    if rate_slo_per_s is None:
        return []
    first = next((demand.resource for demand in demands if demand.saturates_at_per_s is not None), "unknown")
    found = []
    for severity, share in (("ticket", WARN_SHARE), ("page", PAGE_SHARE)):
        found.append(
            {
                "alert": "CapacityNearlyUsed",
                "expr": f'sum(rate(http_requests_total{{job="{job}"}}[10m])) / clamp_min(count(up{{job="{job}"}} == 1), 1) > {share * rate_slo_per_s:.6g}',
                "for": "10m",
                "labels": {"severity": severity},
                "annotations": {
                    "summary": f"{job}: over {share:.0%} of the {rate_slo_per_s:.0f} requests/s a replica carries under its SLO; first to end: {first}"
                },
            }
        )
    return found


def yaml(value: Any, indent: int = 0) -> str:
    """YAML of dictionaries, lists, numbers and strings, every string quoted as in JSON (which is YAML)."""
    pad = "  " * indent
    if isinstance(value, dict):
        return "".join(
            f"{pad}{key}:\n{yaml(item, indent + 1)}" if isinstance(item, dict | list) and item else f"{pad}{key}: {_scalar(item)}\n"
            for key, item in value.items()
        )
    lines = []
    for item in value:
        if isinstance(item, dict):
            text = yaml(item, indent + 1)
            lines.append(f"{pad}- {text[len(pad) + 2 :]}")
        else:
            lines.append(f"{pad}- {_scalar(item)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def dashboard(slo: Slo, job: str, rate_slo_per_s: float | None, saturation_per_s: float | None) -> str:
    """A Grafana dashboard as JSON: load against capacity, latency and errors against the SLO, burn rates."""
    chosen = f'job="{job}"'
    load = [("requests/s a replica", f"sum(rate(http_requests_total{{{chosen}}}[5m])) / clamp_min(count(up{{{chosen}}} == 1), 1)")]
    load += [(name, f"vector({value:.6g})") for name, value in (("highest under the SLO", rate_slo_per_s), ("saturated", saturation_per_s)) if value]
    latency = [
        (f"p{share}", f"histogram_quantile(0.{share}, sum by (le) (rate(http_request_duration_seconds_bucket{{{chosen}}}[5m])))") for share in (50, 95, 99)
    ]
    latency += [(f"promised {name}", f"vector({bound / 1000:g})") for name, bound in (("p95", slo.latency_p95_ms), ("p99", slo.latency_p99_ms)) if bound]
    burn = [(name, f'slo:{name}:bad_share_1h{{job="{job}"}} / {budget:g}') for name, budget, _ in objectives(slo, job)]
    errors = [("share of errors", objectives(slo, job)[0][2].replace("$window", "5m")), ("promised", f"vector({slo.error_rate_max or ERROR_BUDGET:g})")]
    panels = [
        _panel(1, "Load against capacity", "reqps", load, 0, 0),
        _panel(2, "Latency against the SLO", "s", latency, 12, 0),
        _panel(3, "Errors against the SLO", "percentunit", errors, 0, 8),
        _panel(4, "Burn rate of the budgets (1 h; 1 = as promised)", "none", burn, 12, 8),
        _panel(5, "Replicas that are up", "none", [("up", f"count(up{{{chosen}}} == 1)")], 0, 16),
    ]
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    body = {
        "title": f"{job}: capacity and SLO",
        "uid": None,
        "tags": ["perfloop"],
        "schemaVersion": 39,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _panel(number: int, title: str, unit: str, queries: Sequence[tuple[str, str]], x: int, y: int) -> dict[str, Any]:
    targets = [{"refId": chr(65 + k), "expr": expression, "legendFormat": name} for k, (name, expression) in enumerate(queries)]
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"h": 8, "w": 12, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": targets,
    }
