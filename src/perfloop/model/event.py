"""What happens while the loop runs, for terminals, the web and agents. One union, one listener."""

from __future__ import annotations

from typing import Any, Literal

from perfloop.model.base import Estimate, Word


class PhaseStarted(Word):
    """A phase began; ``left_s`` is the expected time to the end of the whole run."""

    event: Literal["phase"] = "phase"
    phase: str
    detail: str = ""
    left_s: float | None = None


class RunningEstimate(Word):
    """Where this phase is: percentiles and errors so far, the p95 with its interval, and the rates of the last second."""

    event: Literal["estimate"] = "estimate"
    phase: str
    requests: int
    p95_s: Estimate | None
    p50_s: float | None = None
    p99_s: float | None = None
    errors: int = 0
    errors_by_class: dict[str, int] = {}
    rate_per_s: float | None = None  # requests that were due in the last second
    ok_per_s: float | None = None  # answers that were successes
    users: int = 0  # closed: active now
    left_s: float | None = None


class Told(Word):
    """Something a user should know now: ``level`` is info, good, warning or bad."""

    event: Literal["told"] = "told"
    level: Literal["info", "good", "warning", "bad"] = "info"
    text: str
    data: dict[str, Any] = {}


Event = PhaseStarted | RunningEstimate | Told
