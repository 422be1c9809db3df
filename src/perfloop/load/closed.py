"""Closed load of one user without think time: what a request costs when nothing else asks."""

from __future__ import annotations

from collections.abc import Sequence

from perfloop.load.engines.solo import send_alone
from perfloop.model.journey import Step
from perfloop.model.run import StepSamples


def run_solo(
    base_url: str,
    step: Step,
    requests_max: int,
    duration_max_s: float,
    headers: Sequence[tuple[str, str]] = (),
    timeout_s: float = 10.0,
    cpu: int | None = None,
    ca_file: str = "",
) -> StepSamples:
    """One request after another, cycling over the step's paths, until ``requests_max`` or ``duration_max_s`` is reached.

    Latencies in seconds, from the start of each request. Blocks. ``UsageError`` for requests that cannot be made, ``CannotMeasure`` for a host that is not there.
    """
    if requests_max < 1 or duration_max_s <= 0:
        raise ValueError("run_solo needs bounds above 0")
    return send_alone(base_url, step, requests_max, duration_max_s, headers, timeout_s, cpu, ca_file)
