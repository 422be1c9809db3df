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
    """The p95 so far in this phase, with its interval."""

    event: Literal["estimate"] = "estimate"
    phase: str
    requests: int
    p95_s: Estimate | None
    errors: int = 0
    left_s: float | None = None


class Told(Word):
    """Something a user should know now: ``level`` is info, good, warning or bad."""

    event: Literal["told"] = "told"
    level: Literal["info", "good", "warning", "bad"] = "info"
    text: str
    data: dict[str, Any] = {}


Event = PhaseStarted | RunningEstimate | Told
