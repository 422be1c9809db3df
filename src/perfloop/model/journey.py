"""What we send: journeys of steps, or functions in a file, and the workload that says how many of them arrive when.

One model under all forms. A bare ``Step`` is a journey of one request; a ``Journey`` is several by one user; a ``Script`` is a Python
file of ``async def`` journeys. A workload has either steps and journeys, or a script. It is open (``rate_per_s``, ``stages`` or
``replay``: arrivals do not wait for answers) or closed (``users``: each waits for its answer, then thinks).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from perfloop.model.arrival import STAGES_MAX, Arrival, Replay, Shard, Spread, Stage, Timeouts, Tls
from perfloop.model.base import Word

STEPS_MAX = 500


class Check(Word):
    """What must be true of a response; where it is not, the request ends as ``check``. ``path`` is a JSON path (``items.0.id``) or a header's name."""

    name: str = ""
    of: Literal["status", "body", "json", "header", "size"] = "status"
    path: str = ""
    equals: str | None = None
    contains: str | None = None
    matches: str | None = Field(default=None, description="Regular expression that is found in it.")
    at_most: float | None = None  # with none of these it must only be there


class Extract(Word):
    """A value taken from a response into the variable ``name``: a JSON path, a header, a cookie, or the first group of a regular expression on the body."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    of: Literal["json", "header", "cookie", "body"] = "json"
    path: str = Field(min_length=1)


class Feed(Word):
    """Rows of a CSV (with a header line) or JSONL file; the columns are variables. The n-th iteration of the whole run gets row n, so no two shards use the same one.

    ``content`` is the text of the file where it travels with the workload; ``stop`` ends the load at the last row instead of beginning again.
    """

    file: str
    content: str = ""
    order: Literal["sequential", "random"] = "sequential"
    stop: bool = False


class Step(Word):
    """One kind of request. ``name`` is its label everywhere (``GET /orders/{id}``); ``paths`` are concrete paths with query, sent in turn.

    Instead of paths a database gets one statement (``sql``), Redis one command (``command``); in them ``{a..b}`` is a number of that range, another one each time.
    ``${variable}`` in paths, headers and body is replaced by a column of a feed or an extracted value. ``think_s`` is waited after it, between its two bounds.
    """

    name: str
    method: str = "GET"
    paths: tuple[str, ...] = ()
    sql: str = ""
    command: str = ""
    weight: float = Field(default=1.0, gt=0)
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    body_file: str = ""  # its bytes as they are, nothing replaced
    checks: tuple[Check, ...] = ()
    extracts: tuple[Extract, ...] = ()
    think_s: Spread = (0.0, 0.0)
    timeout_s: float | None = Field(default=None, ge=0.1, le=300)
    redirects_max: int = Field(default=0, ge=0, le=20, description="Redirects to the same origin that are followed; others are answers.")

    @model_validator(mode="after")
    def _one_request(self) -> Self:
        if bool(self.paths) + bool(self.sql) + bool(self.command) != 1:
            raise ValueError(f"the step {self.name[:80]!r} needs either paths, sql or command")
        return self


class Journey(Word):
    """Steps in order by one user; the first one that fails ends the iteration. ``repeatable`` says that sending it again leaves the same state."""

    name: str
    steps: tuple[Step, ...] = Field(min_length=1, max_length=STEPS_MAX)
    weight: float = Field(default=1.0, gt=0)
    feeds: tuple[Feed, ...] = ()
    think_s: Spread = (0.0, 0.0)  # after the last step, before the user's next iteration
    repeatable: bool = True


class Script(Word):
    """A Python file of ``async def`` journeys; see ``perfloop.load.script``. ``weights`` replaces the file's own by name, 0 leaves a journey out.

    ``source`` is the text of the file where it travels with the workload. ``data`` is what the file's ``setup`` returned, as JSON. A script of another
    tool is run by that tool.
    """

    file: str
    tool: Literal["", "locust", "k6"] = ""
    source: str = ""
    weights: dict[str, float] = {}
    data: str = ""


class Journeys(Word):
    """All of the load, single requests and journeys of several, and where it came from (``configuration``, ``access log``, ``openapi``)."""

    steps: tuple[Step, ...] = ()
    journeys: tuple[Journey, ...] = ()
    source: str

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.steps and not self.journeys:
            raise ValueError("there is nothing to send")
        return self


class Workload(Word):
    """One window of load. Latency counts from the intended start of each request; what is due after ``duration_s`` is not sent, what was sent is awaited at most ``timeout_s``."""

    base_url: str  # of a service, or the address of a database or cache: see ``perfloop.load.engines.database``
    dsn: str = Field(default="", repr=False)  # of a database or cache: how to connect, credentials included
    writes_allowed: bool = False  # statements and commands that change data may be sent
    run_id: str = Field(default="", pattern=r"^[A-Za-z0-9._:-]*$", max_length=200)  # by which ``perfloop stop`` finds its processes
    steps: tuple[Step, ...] = ()  # each a journey of its own
    journeys: tuple[Journey, ...] = ()
    script: Script | None = None
    rate_per_s: float = Field(default=0.0, ge=0, le=100_000)  # journeys that start in a second, open; with stages: unused
    stages: tuple[Stage, ...] = Field(default=(), max_length=STAGES_MAX)  # instead of one level all along, of rate or of users
    replay: Replay | None = None
    users: int = Field(default=0, ge=0, le=50_000)  # closed
    think_s: Spread = (0.0, 0.0)  # of closed users between iterations, where the journey has none
    ramp_up_s: float = Field(default=0.0, ge=0, le=3_600)  # in which rate or users rise from 0
    duration_s: float = Field(gt=0, le=86_400)
    arrival: Arrival = Arrival.POISSON
    seed: int = 1
    timeout_s: float = Field(default=10.0, ge=0.1, le=300)
    timeouts: Timeouts = Timeouts()
    connections_max: int = Field(default=256, ge=1, le=50_000)
    own_connection: bool | None = None  # each user one of its own; None: closed users have one, open arrivals share
    source_addresses: tuple[str, ...] = ()  # local addresses to connect from, in turn: one has 28,232 ports
    headers: tuple[tuple[str, str], ...] = ()
    ca_file: str = ""
    tls: Tls = Tls()
    http_version: Literal["1.1", "2", "auto"] = "1.1"
    cookies: Literal["iteration", "user", "off"] = "iteration"  # how long a user keeps them
    cpu: int | None = None  # core the engine is pinned to; None: not pinned
    cpus: tuple[int, ...] = ()  # cores of several worker processes, in turn
    workers: int = Field(default=1, ge=1, le=256)  # processes
    shard: Shard = Shard()
    start_at_s: float | None = None  # seconds since the epoch at which all shards begin; None: at once
    slot_s: float = Field(default=1.0, ge=0.1, le=1.0)  # how often counts are told, and the slots of the window
    error_rate_stop: float = Field(default=0.5, gt=0, le=1)  # ends the window early when more than this share of ≥ 50 requests failed

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if bool(self.script) == bool(self.steps or self.journeys):
            raise ValueError("a workload has either steps and journeys, or a script")
        if self.replay and (self.rate_per_s or self.users or self.stages):
            raise ValueError("a replay has its own arrivals: no rate, stages or users beside it")
        if self.users and self.rate_per_s:
            raise ValueError("a workload is open (rate_per_s) or closed (users), not both")
        if not (self.replay or self.users or self.rate_per_s or self.stages):
            raise ValueError("a workload needs rate_per_s, stages, replay or users")
        if self.rate_per_s and self.rate_per_s < 0.1:
            raise ValueError(f"rate_per_s {self.rate_per_s} is outside 0.1 to 100,000")
        for spread in (self.think_s, *(journey.think_s for journey in self.journeys)):
            if not 0 <= spread[0] <= spread[1]:
                raise ValueError(f"a think time of {spread[0]} to {spread[1]} s is none")
        return self

    @property
    def closed(self) -> bool:
        """True where users wait for their answers; with ``stages`` their levels are users, ``users`` the most there will be."""
        return self.users > 0

    @property
    def all_journeys(self) -> tuple[Journey, ...]:
        """The declarative journeys, bare steps first, each as a journey of its own."""
        return (*(Journey(name=step.name, steps=(step,), weight=step.weight) for step in self.steps), *self.journeys)

    def sharded(self, count: int) -> tuple[Workload, ...]:
        """The workload in ``count`` parts that together are exactly it: each arrival, user and feed row is in one. Connections and the parts of a part are split the same way."""
        parts = []
        for index in range(count):
            shard = Shard(index=self.shard.index + index * self.shard.count, count=self.shard.count * count, from_s=self.shard.from_s)
            connections = max(1, Shard(index=index, count=count).part(self.connections_max))
            cpu = self.cpus[index % len(self.cpus)] if self.cpus else self.cpu
            parts.append(self.with_(shard=shard, workers=1, cpu=cpu, connections_max=connections))
        return tuple(parts)
