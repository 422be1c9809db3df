"""The policy by what ends the service; rules and dashboard by the tools that read them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from perfloop.capacity.alerts import dashboard, rules
from perfloop.capacity.policy import day, derive
from perfloop.capacity.replay import Replica
from perfloop.model.base import Estimate
from perfloop.model.capacity import Demand
from perfloop.model.result import Slo

CPU = Demand(resource="CPU of python", kind="cpu", unit="cores", capacity=1.0, saturates_at_per_s=Estimate(value=100.0))
POOL = Demand(resource="connections to postgresql", kind="connections", unit="connections", capacity=4.0, saturates_at_per_s=Estimate(value=90.0))
REPLICA = Replica(rate_slo_per_s=80, rate_max_per_s=100, cpu_per_request_s=0.01, startup_s=20)
SLO = Slo(latency_p95_ms=200, latency_p99_ms=500, error_rate_max=0.005)


def test_cpu_is_the_metric_where_cpu_ends_it_and_the_policy_holds_where_the_naive_one_does_not() -> None:
    found = derive(50, 500, REPLICA, (CPU,), "shop")
    assert found.metric == "cpu"
    by = {(run.scenario, run.policy): run for run in found.simulated}
    assert len(by) == 4
    assert by["spike", "derived"].broken_share < by["spike", "80 % CPU"].broken_share
    assert "averageUtilization" in found.manifest
    assert json.loads(found.target_tracking)["max"] == found.replicas_max


def test_the_rate_is_the_metric_where_something_else_ends_it() -> None:
    found = derive(50, 500, REPLICA, (POOL, CPU), "shop")
    assert found.metric == "rate"
    assert "connections to postgresql" in found.why
    assert "http_requests_per_second" in found.manifest


def test_a_day_peaks_where_it_is_told_to() -> None:
    assert max(day(10, 100)) == pytest.approx(100)
    assert min(day(10, 100)) == pytest.approx(10)


def test_rules_are_what_promtool_accepts(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "make services installs it (Debian package prometheus)"
    path = tmp_path / "rules.yml"
    path.write_text(rules(SLO, "shop", 80.0, (CPU,)))
    done = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "35 rules found" in done.stdout


def test_a_burn_that_is_fast_enough_fires_and_a_slow_one_does_not(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "make services installs it (Debian package prometheus)"
    (tmp_path / "rules.yml").write_text(rules(Slo(error_rate_max=0.01), "shop", None, ()))
    series = [
        {"series": 'http_requests_total{job="shop",status="200"}', "values": "0+800x180"},
        {"series": 'http_requests_total{job="shop",status="500"}', "values": "0+200x180"},
    ]
    wanted = {"eval_time": "2h", "alertname": "ErrorsBudgetBurn"}
    fires = [
        {"exp_labels": {"job": "shop", "severity": severity, "window": window}, "exp_annotations": {"summary": summary}}
        for severity, window, summary in (
            ("page", "1h", "shop: 2 % of the 30-day budget of errors burns within 1h (over 14.40% bad)"),
            ("page", "6h", "shop: 5 % of the 30-day budget of errors burns within 6h (over 6.00% bad)"),
            ("ticket", "1d", "shop: 10 % of the 30-day budget of errors burns within 1d (over 3.00% bad)"),
            ("ticket", "3d", "shop: 10 % of the 30-day budget of errors burns within 3d (over 1.00% bad)"),
        )
    ]
    test = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": [wanted | {"exp_alerts": fires}]}]}  # fmt: skip
    healthy = json.loads(json.dumps(test).replace("0+200x180", "0+4x180"))
    healthy["tests"][0]["alert_rule_test"][0]["exp_alerts"] = []
    for name, body in (("burns", test), ("healthy", healthy)):
        (tmp_path / f"{name}.yml").write_text(json.dumps(body))
        done = subprocess.run([promtool, "test", "rules", str(tmp_path / f"{name}.yml")], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_shows_load_against_capacity_and_every_promise() -> None:
    found = json.loads(dashboard(SLO, "shop", 80.0, 100.0))
    queries = [target["expr"] for panel in found["panels"] for target in panel["targets"]]
    assert "vector(80)" in queries
    assert any("histogram_quantile(0.95" in query for query in queries)
    assert any("slo:latency_p99:bad_share_1h" in query for query in queries)
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
