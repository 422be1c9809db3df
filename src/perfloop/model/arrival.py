"""When load arrives, how it is split, and how it reaches the target: the parts of a ``Workload`` that are no requests."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator

from perfloop.model.base import Word

REPLAY_MAX = 2_000_000  # arrivals of one replay
STAGES_MAX = 10_000


class Arrival(StrEnum):
    """How open arrivals are spaced around the rate of the moment."""

    CONSTANT = "constant"
    POISSON = "poisson"


class Stage(Word):
    """A piece of the curve of rate (open) or users (closed): from where the last one ended to ``level`` in ``duration_s``, in a line, or at once with ``step``."""

    duration_s: float = Field(gt=0, le=86_400)
    level: float = Field(ge=0, le=100_000, description="Requests a second, or users, at its end.")
    step: bool = Field(default=False, description="Jump to the level at its start and stay there.")


class Replay(Word):
    """Arrivals with their real gaps: seconds from the start, ascending; ``journeys[i]`` is the index of the journey of arrival i, empty: by weight."""

    times_s: tuple[float, ...] = Field(min_length=1, max_length=REPLAY_MAX)
    journeys: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        times = self.times_s
        if times[0] < 0 or any(b < a for a, b in pairwise(times)):
            raise ValueError("the times of a replay must ascend from 0")
        if self.journeys and len(self.journeys) != len(times):
            raise ValueError(f"a replay has {len(times)} times and {len(self.journeys)} journeys")
        return self


class Shard(Word):
    """One of ``count`` parts of a workload. Part ``index`` has every arrival, user and iteration whose number is ``index`` modulo ``count``, so the parts make exactly the whole.

    ``from_s`` leaves out what was due before: another worker takes over a lost part from there.
    """

    index: int = Field(default=0, ge=0)
    count: int = Field(default=1, ge=1, le=10_000)
    from_s: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if self.index >= self.count:
            raise ValueError(f"there is no part {self.index} of {self.count}")
        return self

    def part(self, total: int) -> int:
        """How many of ``total`` numbers (users, connections) are this part's."""
        return (total - self.index + self.count - 1) // self.count


class Timeouts(Word):
    """Bounds of one request by phase, in seconds; None: only the total counts. A request over one of them ends as ``timeout_connect``, ``timeout_first_byte`` or ``timeout``."""

    connect_s: float | None = Field(default=None, ge=0.1, le=300)
    first_byte_s: float | None = Field(default=None, ge=0.1, le=300)


class Tls(Word):
    """Certificates in PEM form, as paths: ``ca_file`` to trust instead of the system's, ``cert_file`` and ``key_file`` to show to the target (mTLS)."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


Spread = tuple[float, float]
