"""The part of the configuration that ``perfloop gate`` and ``try`` read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from perfloop.model.base import Word
from perfloop.model.limits import TimeoutS


class BudgetConfig(Word):
    """One performance budget of the gate: absolute (``max``), relative to the other side (``worse_max``), or both; of one endpoint or of all requests."""

    metric: Literal["p50_ms", "p95_ms", "p99_ms", "mean_ms", "error_rate", "cpu_ms_per_request", "bytes_per_response", "queries_per_request"] = Field(
        description="bytes_per_response is the page's weight; queries_per_request counts what the database of target.postgres (by pg_stat_statements) or target.mysql executes."
    )
    step: str = Field(default="", description="The endpoint; empty: all requests together.")
    max: float | None = Field(default=None, ge=0, description="Highest value allowed, in the metric's unit (error_rate as a share).")
    worse_max: float | None = Field(default=None, ge=0, description="How much higher than the other side it may be; 0.05: 5 %.")

    @model_validator(mode="after")
    def _some_bound(self) -> BudgetConfig:
        if self.max is None and self.worse_max is None:
            raise ValueError("a budget needs max, worse_max, or both")
        return self


class GateConfig(Word):
    """How perfloop gate and try start two states of the code side by side."""

    build_command: str = Field(default="", description="Run once in each state's folder, without a shell; empty: nothing to build.")
    start_command: str = Field(default="", description="Starts the service in the foreground; {port} (and the variable PORT) is the port it must listen on.")
    start_timeout_s: TimeoutS = 30.0
    build_timeout_s: float = Field(default=300.0, ge=1, le=3600)
    effect_min: float = Field(default=0.05, ge=0, le=1, description="A change below this is no regression and no improvement.")
    pairs: int = Field(default=20, ge=3, le=60, description="Pairs of rounds at most.")
    budgets: tuple[BudgetConfig, ...] = ()
