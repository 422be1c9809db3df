"""What the service promises against what was measured."""

from __future__ import annotations

from perfloop.model.base import Estimate
from perfloop.model.result import Slo, SloCheck
from perfloop.model.run import Summary


def check_slo(slo: Slo, summary: Summary) -> tuple[SloCheck, ...]:
    """One check for each promise. ``ok`` is None where it was not measured, and where the interval of the measurement contains the bound."""
    checks = [
        _latency("latency p95", slo.latency_p95_ms, summary.total.p95_s),
        _latency("latency p99", slo.latency_p99_ms, summary.total.p99_s),
        _errors(slo.error_rate_max, summary),
    ]
    return tuple(check for check in checks if check is not None)


def _latency(name: str, bound_ms: float | None, measured: Estimate | None) -> SloCheck | None:
    if bound_ms is None:
        return None
    if measured is None:
        return SloCheck(name=name, bound=bound_ms, measured=None, unit="ms", ok=None)
    low, high = (measured.value if end is None else end for end in (measured.low, measured.high))
    ok = True if high * 1000 <= bound_ms else False if low * 1000 > bound_ms else None
    return SloCheck(name=name, bound=bound_ms, measured=round(measured.value * 1000, 3), unit="ms", ok=ok)


def _errors(bound: float | None, summary: Summary) -> SloCheck | None:
    if bound is None:
        return None
    total = summary.total
    if not total.sent:
        return SloCheck(name="error rate", bound=bound, measured=None, unit="share", ok=None)
    share = sum(total.errors.values()) / total.sent
    return SloCheck(name="error rate", bound=bound, measured=round(share, 6), unit="share", ok=share <= bound)
