"""The delivery notice and the progress message, filled in from measurements only: what was not measured, or not proved, is left out."""

from __future__ import annotations

from typing import Any

from perfloop.model.base import Estimate
from perfloop.model.result import RunResult
from perfloop.model.run import RateSearch

#: A search for the highest rate stops at a tolerance of 10 %; a smaller difference between two searches is no gain.
RATE_GAIN_MIN = 0.10


def delivery_notice(result: RunResult) -> str:
    """The notice as one line: ``Performance optimization completed. Improved response time by 68% (2.1s to 0.67s), …``."""
    clauses = [text for text in (_response_time(result), _throughput(result), _resources(result)) if text]
    if not clauses:
        return "Performance optimization completed. No improvement was proven."
    sentence = clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])}{',' if len(clauses) > 2 else ''} and {clauses[-1]}"
    return f"Performance optimization completed. {sentence[0].upper()}{sentence[1:]}."


def progress(result: RunResult, status: str = "optimizing") -> dict[str, Any]:
    """The progress message, one JSON object; ``progress`` holds only figures that were measured."""
    figures: dict[str, str] = {}
    if gain := _gain(result, "response_time"):
        figures["response_time_improvement"] = _percent(gain)
    if (increase := throughput_gain(result.throughput_before, result.throughput_after)) is not None:
        figures["throughput_increase"] = _percent(increase)
    if gain := _gain(result, "cpu_per_request"):
        figures["resource_reduction"] = _percent(gain)
    return {"agent": "performance-engineer", "status": status, "progress": figures}


def throughput_gain(before: RateSearch | None, after: RateSearch | None) -> float | None:
    """The relative increase of the highest rate that keeps the SLO (2.45 = +245 %); None where one was not found, or the difference is within the search's tolerance."""
    if before is None or after is None or not before.rate_per_s or not after.rate_per_s:
        return None
    increase = after.rate_per_s / before.rate_per_s - 1
    return increase if increase > RATE_GAIN_MIN else None


def _gain(result: RunResult, name: str) -> float | None:
    gain: Estimate | None = result.improvement.get(name)
    proven = gain is not None and gain.value > 0 and (gain.low is None or gain.low > 0)
    return gain.value if gain is not None and proven else None


def _response_time(result: RunResult) -> str:
    gain = _gain(result, "response_time")
    if gain is None:
        return ""
    before = result.before.total.p95_s if result.before else None
    after = result.after.total.p95_s if result.after else None
    levels = f" ({_times(before.value, after.value)})" if before and after else ""
    return f"improved response time by {_percent(gain)}{levels}"


def _throughput(result: RunResult) -> str:
    before, after = result.throughput_before, result.throughput_after
    increase = throughput_gain(before, after)
    if increase is None or before is None or after is None:
        return ""
    at_least = "" if after.bounded else "at least "
    return f"increased throughput by {at_least}{_percent(increase)} ({_rate(before.rate_per_s)} to {_rate(after.rate_per_s)} RPS)"


def _resources(result: RunResult) -> str:
    gain = _gain(result, "cpu_per_request")
    return f"reduced resource usage by {_percent(gain)}" if gain else ""


def _percent(value: float) -> str:
    return f"{value * 100:.0f}%"


def _times(before: float, after: float) -> str:
    return f"{_two(before)}s to {_two(after)}s" if before >= 1 else f"{_two(before * 1000)}ms to {_two(after * 1000)}ms"


def _rate(value: float | None) -> str:
    size = value or 0.0
    return f"{_two(size / 1000)}k" if size >= 1000 else _two(size)


def _two(value: float) -> str:
    """Two significant digits, or whole numbers from 10 on: ``2.1``, ``0.67``, ``412``."""
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.1f}".removesuffix(".0") if value >= 1 else f"{value:.2g}"
