"""An autoscaling policy from what was measured: its metric by what ends the service, its target by simulation beside the naive 80 % CPU policy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import ceil

from perfloop.capacity.alerts import yaml
from perfloop.capacity.replay import Replica, Scaler, candidates, choose, replay, spike
from perfloop.model.capacity import Demand, Forecast, ScalingPolicy

NAIVE_TARGET = 80.0
BROKEN_SHARE_MAX = 0.001
DAY = 86_400
REPLICAS_MAX = 1_000


def derive(now_per_s: float, peak_per_s: float, replica: Replica, demands: Sequence[Demand], name: str, forecast: Forecast | None = None) -> ScalingPolicy:
    """The cheapest policy that keeps the SLO for 99.9 % of the requests of a day that peaks at ``peak_per_s`` and of a spike to it; else the best there is, said so."""
    metric = "cpu" if _cpu_ends_it(demands) else "rate"
    maximum = min(REPLICAS_MAX, max(2, ceil(1.3 * peak_per_s / replica.rate_slo_per_s)))
    at_slo = min(95.0, 100 * (replica.cpu_idle_cores + replica.rate_slo_per_s * replica.cpu_per_request_s) / replica.cpu_request_cores)
    needed = [ceil(share * peak_per_s / replica.rate_slo_per_s) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    minima = sorted({max(1, min(maximum, count)) for count in (1, 2, *needed)})
    low = min(now_per_s, peak_per_s / 2)
    scenarios = [("spike", spike(low, peak_per_s)), ("a day of the forecast", day(low, peak_per_s, forecast))]
    short = [(name_, arrivals if name_ == "spike" else arrivals[6 * 3600 : 14 * 3600]) for name_, arrivals in scenarios]
    chosen, holds = choose(short, replica, candidates(metric, at_slo, replica.rate_slo_per_s, minima, maximum), BROKEN_SHARE_MAX)
    naive = Scaler("80 % CPU", "cpu", NAIVE_TARGET, 1, maximum)
    simulated = tuple(replay(scenario, arrivals, replica, scaler) for scenario, arrivals in scenarios for scaler in (chosen, naive))
    why = (
        "CPU ends this service, and the target is what keeps the SLO while replicas start"
        if metric == "cpu"
        else f"{_end(demands)} ends this service before CPU does, so that CPU says nothing: requests a second per replica do"
    )
    if not holds:
        why += f"; no policy kept the SLO for {1 - BROKEN_SHARE_MAX:.1%} of the requests of the spike: replicas take {replica.startup_s:.0f} s to start"
    return ScalingPolicy(
        metric="cpu" if metric == "cpu" else "rate",
        target=round(chosen.target, 1),
        unit="% of the CPU request" if metric == "cpu" else "requests/s a replica",
        replicas_min=chosen.minimum,
        replicas_max=chosen.maximum,
        keeps_slo=holds,
        why=why,
        manifest=manifest(name, chosen, replica),
        target_tracking=target_tracking(name, chosen, replica),
        simulated=simulated,
    )


def _cpu_ends_it(demands: Sequence[Demand]) -> bool:
    first = next((demand for demand in demands if demand.saturates_at_per_s is not None), None)
    return first is not None and first.kind == "cpu" and first.scales


def _end(demands: Sequence[Demand]) -> str:
    first = next((demand for demand in demands if demand.saturates_at_per_s is not None), None)
    return first.resource if first is not None else "something that was not seen"


def day(low_per_s: float, peak_per_s: float, forecast: Forecast | None = None) -> list[float]:
    """The arrivals of one day by second: the forecast's last day scaled to the peak where it knows a season, else a plain rise and fall."""
    if forecast is not None and forecast.season_s and len(forecast.points) >= 24:
        last = [point.high_per_s for point in forecast.points[-24:]]
        top = max(last) or 1.0
        hours = [peak_per_s * value / top for value in last]
    else:
        hours = [low_per_s + (peak_per_s - low_per_s) * max(0.0, 1 - abs(hour - 12) / 8) for hour in range(24)]
    found = []
    for second in range(DAY):
        hour, part = divmod(second / 3600, 1)
        first, then = hours[int(hour) % 24], hours[(int(hour) + 1) % 24]
        found.append(first + (then - first) * part)
    return found


def manifest(name: str, scaler: Scaler, replica: Replica) -> str:
    """A HorizontalPodAutoscaler of autoscaling/v2 for a deployment of that name."""
    if scaler.metric == "cpu":
        metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": int(scaler.target)}}}
    else:
        target = {"type": "AverageValue", "averageValue": f"{int(scaler.target * 1000)}m"}
        metric = {"type": "Pods", "pods": {"metric": {"name": "http_requests_per_second"}, "target": target}}

    def rules(found: object) -> dict[str, object]:
        from perfloop.capacity.autoscaler import Rules

        assert isinstance(found, Rules)
        policies = [{"type": policy.kind, "value": policy.value, "periodSeconds": policy.period_s} for policy in found.policies]
        return {"stabilizationWindowSeconds": found.stabilization_s, "selectPolicy": found.select, "policies": policies}

    body = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": scaler.minimum,
            "maxReplicas": scaler.maximum,
            "metrics": [metric],
            "behavior": {"scaleUp": rules(scaler.up), "scaleDown": rules(scaler.down)},
        },
    }
    head = f"# Pods request {replica.cpu_request_cores * 1000:.0f}m CPU; a replica was taken to be ready {replica.startup_s:.0f} s after its start.\n"
    if scaler.metric != "cpu":
        head += "# http_requests_per_second comes from a metrics adapter (prometheus-adapter, KEDA): sum(rate(http_requests_total[1m])) by pod.\n"
    return head + yaml(body)


def target_tracking(name: str, scaler: Scaler, replica: Replica) -> str:
    """The same policy in general terms, as cloud groups and other schedulers take it."""
    body = {
        "name": name,
        "metric": "average CPU utilisation, per cent" if scaler.metric == "cpu" else "requests per second per replica",
        "target": round(scaler.target, 1),
        "min": scaler.minimum,
        "max": scaler.maximum,
        "scale_out_cooldown_s": ceil(replica.startup_s),
        "scale_in_cooldown_s": scaler.down.stabilization_s,
        "instance_warmup_s": ceil(replica.startup_s),
    }
    return json.dumps(body, indent=2) + "\n"
