"""What a comparison asks. Fixed before the first round, so that nothing can be chosen after the fact."""

from __future__ import annotations

from dataclasses import dataclass

from perfloop.stats.sequential import Looks
from perfloop.validate.levels import UNITS, Metric

_NAMES = {"p95_s": "p95", "mean_s": "mean", "geomean_s": "geometric mean", "cpu_per_request": "CPU per request"}


@dataclass(frozen=True)
class Question:
    """One metric of one step (None: all requests), the smallest change worth knowing of, and the cap on pairs.

    ``non_inferiority``: a guard must be shown to be within its margin; else it fails only on evidence of harm.
    """

    step: str | None = None
    metric: Metric = "p95_s"
    effect_min: float = 0.05
    confidence: float = 0.95
    pairs_max: int = 4
    non_inferiority: bool = False

    @property
    def looks(self) -> Looks:
        """The test that may be looked at after every pair."""
        return Looks(self.pairs_max, self.confidence)

    @property
    def named(self) -> str:
        """As stored: ``p95_s of GET /x``."""
        return f"{self.metric} of {self.step or 'all requests'}"

    @property
    def spoken(self) -> str:
        """As people say it: ``p95 of GET /x``."""
        return f"{_NAMES[self.metric]} of {self.step or 'all requests'}"

    @property
    def unit(self) -> str:
        """Of the metric."""
        return UNITS[self.metric]
