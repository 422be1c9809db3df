"""What we send: steps, their weights, and the arrival of requests."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from perfloop.model.base import Word


class Step(Word):
    """One kind of request. ``name`` is its label everywhere (``GET /orders/{id}``); ``paths`` are concrete paths with query, sent in turn."""

    name: str
    method: str = "GET"
    paths: tuple[str, ...] = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0)
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""


class Journeys(Word):
    """All steps of the load, and where they came from (``configuration``, ``access log``, ``openapi``)."""

    steps: tuple[Step, ...] = Field(min_length=1)
    source: str


class Arrival(StrEnum):
    """How open arrivals are spaced."""

    CONSTANT = "constant"
    POISSON = "poisson"


class Workload(Word):
    """One window of open load. Latency counts from the intended start of each request; arrivals after ``duration_s`` are not sent, those sent are awaited at most ``timeout_s``."""

    base_url: str
    steps: tuple[Step, ...] = Field(min_length=1)
    rate_per_s: float = Field(ge=0.1, le=100_000)
    duration_s: float = Field(gt=0, le=86_400)
    arrival: Arrival = Arrival.POISSON
    seed: int = 1
    timeout_s: float = Field(default=10.0, ge=0.1, le=300)
    connections_max: int = Field(default=256, ge=1, le=50_000)
    headers: tuple[tuple[str, str], ...] = ()
    ca_file: str = ""
    cpu: int | None = None  # core the engine is pinned to; None: not pinned
    error_rate_stop: float = Field(default=0.5, gt=0, le=1)  # ends the window early when more than this share of ≥ 50 requests failed
