"""The messages of agents to one another: the request for context, its answer, and the roles that work is handed to."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from perfloop.model.base import SCHEMA_VERSION, Word

AGENT = "performance-engineer"

#: the roles that findings name, each with what it is asked to look at
ROLES = {
    "backend developer": "code of the service: queries per request, algorithms, blocking calls, caches in the process",
    "database administrator": "queries, indexes, statistics, settings and locks of the database",
    "devops engineer": "builds, rollout, configuration, limits of containers, performance tests in CI",
    "architecture reviewer": "boundaries between services, caching layers, queues, how the system is split",
    "QA": "test data, load scenarios, performance budgets and regressions",
    "SRE": "machines, network, saturation, alerts and on-call",
    "cloud architect": "instance types, regions, scaling policies and cost",
    "frontend developer": "page weight, caching headers, compression, requests per page",
}


class ContextQuery(Word):
    """The payload of a context request."""

    query: str = Field(default="", max_length=2_000)


class ContextMessage(Word):
    """One agent asks for the performance context; read as one JSON object."""

    requesting_agent: str = Field(min_length=1, max_length=100)
    request_type: Literal["get_performance_context"]
    payload: ContextQuery = ContextQuery()


class Stated(Word):
    """What another agent, or a person, says of the service: kept with its source, never mixed with what was measured."""

    source: str = Field(min_length=1, max_length=100)
    slas: tuple[str, ...] = Field(default=(), max_length=100)
    current_metrics: dict[str, float | str] = Field(default={}, max_length=200)
    architecture: tuple[str, ...] = Field(default=(), max_length=200)
    load_patterns: tuple[str, ...] = Field(default=(), max_length=100)
    pain_points: tuple[str, ...] = Field(default=(), max_length=100)
    scalability_requirements: tuple[str, ...] = Field(default=(), max_length=100)


class PerformanceContext(Word):
    """The answer: what is configured, discovered and measured; ``unknown`` names what nobody has told and nothing has measured."""

    schema_version: Literal[1] = SCHEMA_VERSION
    agent: str = AGENT
    response_type: Literal["performance_context"] = "performance_context"
    run_id: str = ""  # of the measurements
    measured_at: str = ""
    slas: dict[str, Any] = {}
    current_metrics: dict[str, Any] = {}
    architecture: dict[str, Any] = {}
    load_patterns: dict[str, Any] = {}
    pain_points: tuple[dict[str, Any], ...] = ()
    scalability_requirements: dict[str, Any] = {}
    stated: tuple[Stated, ...] = ()
    unknown: tuple[str, ...] = ()
