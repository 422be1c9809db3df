"""The base of all words: frozen, strict about unknown keys, tuples instead of lists."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION: Final = 1


class Word(BaseModel):
    """A frozen value without I/O. Unknown keys are errors; JSON in and out by pydantic."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")

    def with_(self, **changes: Any) -> Any:
        """A copy with some fields replaced (not validated again)."""
        return self.model_copy(update=changes)


def utc_now() -> str:
    """The time now, UTC, ISO 8601 with ``Z`` and whole seconds, as the audit format wants it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Estimate(Word):
    """A measured number with its interval: ``value`` in ``unit``; ``low``/``high`` at ``confidence``; from ``n`` units (windows, pairs, samples)."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 1
    unit: str = ""
    confidence: float = 0.95
    source: str = ""  # which measurement it comes from: "baseline", "proof of missing-index", …
