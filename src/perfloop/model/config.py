"""The configuration: ``perfloop.toml`` or ``[tool.perfloop]``. Each knob is written once, here; the schema and the docs are generated from it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from perfloop.model.arrival import Spread
from perfloop.model.base import Word
from perfloop.model.gate_config import BudgetConfig as BudgetConfig
from perfloop.model.gate_config import GateConfig as GateConfig
from perfloop.model.journey import Check, Extract
from perfloop.model.limits import RatePerS, TimeoutS
from perfloop.model.result import Slo
from perfloop.model.taps import TapConfig
from perfloop.model.target import Environment

SECRET_REFERENCE = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$"  # noqa: S105 -- a pattern, no secret


class SettingConfig(Word):
    """One setting of the service that perfloop may change: a key of a configuration file."""

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="Name of the setting, used in findings and candidates.")
    file: str = Field(description="The file, relative to this configuration; TOML, JSON or key=value by its ending.")
    key: str = Field(description="Dotted key in the file.")
    answers: tuple[str, ...] = Field(default=(), description="Rules that a larger value answers, e.g. pool-exhausted.")
    min: float | None = Field(default=None, description="Lowest value that may be set.")
    max: float | None = Field(default=None, description="Highest value that may be set.")
    restart: bool = Field(default=True, description="The service reads it at start only, so changing it needs the restart command.")


class CandidateConfig(Word):
    """A change that you want tried: kept if it is proved to help, undone if not."""

    title: str
    kind: str = Field(default="app-setting", description="Kind of change: perfloop explain lists them.")
    params: dict[str, Any] = Field(default={}, description="What that kind needs, by name: perfloop explain KIND.")
    setting: str = Field(default="", description="For app-setting: id of one of the target's settings.")
    value: Any = None
    step: str = Field(default="", description="The endpoint by which it is judged; empty: all requests together.")


class StepConfig(Word):
    """One request. ${variable} in path, headers and body is a column of a feed, or what an earlier step extracted."""

    name: str = Field(default="", description="Label; METHOD and path where empty.")
    path: str = Field(default="", description="Path with query. {a..b} expands to numbers spread over that range.")
    paths: tuple[str, ...] = Field(default=(), description="Several concrete paths, sent in turn.")
    sql: str = Field(
        default="",
        description="For a database as the target: one statement, e.g. select * from orders where id = ${id} or id = {1..1000}. Values are bound, not pasted.",
    )
    command: str = Field(default="", description="For Redis as the target: one command, e.g. GET order:{1..1000}.")
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    headers: dict[str, str] = {}
    body: str = ""
    body_file: str = Field(default="", description="File whose bytes are the body, relative to this configuration.")
    checks: tuple[Check, ...] = Field(default=(), description='What must be true of the answer, e.g. {of = "json", path = "ok", equals = "true"}.')
    extracts: tuple[Extract, ...] = Field(default=(), description='Values taken from the answer, e.g. {name = "token", of = "json", path = "token"}.')
    think_s: Spread = Field(default=(0.0, 0.0), description="Pause after it, between these two.")
    timeout_s: TimeoutS | None = Field(default=None, description="Of this request; empty: measure.timeout_s.")
    redirects_max: int = Field(default=0, ge=0, le=20, description="Redirects to the same origin that are followed.")

    @property
    def forms(self) -> int:
        """In how many ways it says what is sent."""
        return bool(self.path) + bool(self.paths) + bool(self.sql) + bool(self.command)


class JourneyConfig(StepConfig):
    """One kind of request and its weight, or several steps in order by one user."""

    weight: float = Field(default=1.0, gt=0)
    repeatable: bool = Field(default=False, description="For requests that change data: says that sending it again leaves the same state.")
    steps: tuple[StepConfig, ...] = Field(default=(), max_length=500, description="Instead of one request; the first that fails ends the iteration.")
    feeds: tuple[str, ...] = Field(
        default=(), description="CSV or JSONL files, relative to this configuration: each iteration gets a row, whose columns are variables."
    )

    @property
    def methods(self) -> set[str]:
        """The methods of all its requests."""
        return {step.method for step in self.steps or (self,)}

    @model_validator(mode="after")
    def _one_path(self) -> JourneyConfig:
        if self.forms + bool(self.steps) != 1:
            raise ValueError("a journey needs either path, paths, sql, command or steps")
        for step in self.steps:
            if step.forms != 1:
                raise ValueError("a step needs either path, paths, sql or command")
        return self


class TargetConfig(Word):
    """The service, where its data lives, and how to restart it."""

    name: str = Field(default="", description="A name for reports; host and port where empty.")
    url: str = Field(
        default="",
        description="Base URL of the service. For perfloop load also postgresql://host:port/name, mysql://… or redis://…, with the login of target.postgres, target.mysql or target.redis.",
    )
    environment: Environment | None = Field(default=None, description="sandbox, staging or production: safeguards scale with it.")
    process: str = Field(default="auto", description="auto (from the listening socket) or a process id.")
    postgres: str = Field(default="", pattern=r"^$|" + SECRET_REFERENCE, description="Reference to the DSN of a read-only role: env:NAME or file:PATH.")
    postgres_admin: str = Field(
        default="", pattern=r"^$|" + SECRET_REFERENCE, description="Reference to the DSN of the role that owns the tables; used for changes only."
    )
    mysql: str = Field(default="", pattern=r"^$|" + SECRET_REFERENCE, description="Reference to the DSN of a MySQL or MariaDB account with PROCESS, to look.")
    mysql_admin: str = Field(
        default="", pattern=r"^$|" + SECRET_REFERENCE, description="Reference to the DSN of a MySQL or MariaDB role that may SET GLOBAL; used for changes only."
    )
    redis: str = Field(default="", pattern=r"^$|" + SECRET_REFERENCE, description="Reference to the DSN of a Redis, to look.")
    memcached: str = Field(default="", pattern=r"^$|^[A-Za-z0-9.-]+:[0-9]{1,5}$", description="host:port of a Memcached, to look.")
    mongodb_documents: str = Field(default="", description="A JSON file of MongoDB's system.profile, $indexStats or currentOp documents, to look.")
    redis_admin: str = Field(
        default="", pattern=r"^$|" + SECRET_REFERENCE, description="Reference to the DSN of a Redis user that may CONFIG SET; used for changes only."
    )
    otlp_port: int | None = Field(
        default=None,
        ge=1,
        le=65_535,
        description="Port on 127.0.0.1 where the service's OpenTelemetry spans (OTLP/HTTP) are taken while perfloop works, 4318 for instance.",
    )
    openapi: str = Field(default="", description="Path of the OpenAPI document; empty: the usual places are tried.")
    access_log: str = Field(default="", description="An access log in combined format, to take paths and weights from.")
    http_version: Literal["1.1", "2", "auto"] = Field(
        default="1.1",
        description="Of the load: 2 needs the extra http2, and without TLS a server that is known to speak it; auto: as the server chooses (ALPN).",
    )
    headers: dict[str, str] = Field(default={}, description="Headers sent with every request; a value may be a reference (env:NAME, file:PATH).")
    ca_file: str = Field(default="", description="CA certificates to trust, PEM.")
    cert_file: str = Field(default="", description="Certificate to show to the target (mTLS), PEM.")
    key_file: str = Field(default="", description="Its key, PEM; empty: in the same file.")
    health_path: str = Field(default="", description="Path that answers 2xx when the service is healthy; empty: the first step.")
    allow_writes: bool = Field(
        default=False, description="For a database or Redis as the target of load, in a sandbox only: statements and commands that change data may be sent."
    )
    restart_command: str = Field(default="", description="Command that restarts the service and returns when it was told to; run without a shell.")
    restart_timeout_s: TimeoutS = 30.0
    allow_hosts: tuple[str, ...] = Field(default=(), description="Non-local hosts that may be loaded.")
    source_root: str = Field(default="", description="Folder of the service's own code; empty: its working directory.")
    settings: tuple[SettingConfig, ...] = ()
    taps: tuple[TapConfig, ...] = ()


class HooksConfig(Word):
    """Commands around a load test, run without a shell in the configuration's folder; ``{size}`` is the level of a volume or scalability test.

    ``tear_down`` runs whatever happens once ``set_up`` was started: also after a failure, Ctrl-C or a killed perfloop.
    """

    set_up: str = Field(default="", description="Prepares the data before the load.")
    tear_down: str = Field(default="", description="Removes the data after the load; must be safe to run twice.")
    reset: str = Field(
        default="",
        description="Puts the data back between two windows, for journeys that change it; without it they are not repeatable and comparisons are refused.",
    )
    timeout_s: float = Field(default=120.0, ge=1, le=300, description="A hook that takes longer is ended, and has failed.")


class WorkersConfig(Word):
    """Certificates for the scheduler and workers of dask.distributed, PEM; needed where they are not on this machine. The workers' allow-list is their own: PERFLOOP_ALLOW_HOSTS."""

    ca_file: str = Field(default="", description="CA that signed the scheduler's and the workers' certificates.")
    cert_file: str = Field(default="", description="Certificate that we show.")
    key_file: str = Field(default="", description="Its key.")


class ChangesConfig(Word):
    """What may be changed without asking."""

    allow: Literal["none", "safe", "ask"] = Field(
        default="none", description="none: nothing; safe: safe changes by themselves; ask: also those that ask, after a yes."
    )
    restart: bool = Field(default=False, description="A restart by the configured command is safe here (in a sandbox it is).")
    ticket: str = Field(default="", description="Change ticket; required in production.")
    approved_by: str = Field(default="", description="Who approved; required in production.")


class MeasureConfig(Word):
    """How to measure. The defaults suit a service of tens to thousands of requests a second."""

    rate_per_s: RatePerS | None = Field(default=None, description="Open arrival rate; empty: half of the measured knee.")
    window_s: float = Field(default=5.0, ge=1, le=600, description="Length of one window.")
    windows: int = Field(default=5, ge=3, le=100, description="Windows of the baseline.")
    warmup_s: float = Field(default=3.0, ge=0, le=600)
    pairs: int = Field(default=4, ge=3, le=60, description="Pairs of rounds to prove a change, at most.")
    confirm_pairs: int = Field(
        default=2, ge=0, le=20, description="Fresh pairs on which an improvement must show again (by half of effect_min) before it is kept; 0: none."
    )
    pairs_window_s: float = Field(default=4.0, ge=0.2, le=600, description="Length of one round; short ones need a high rate.")
    settle_s: float = Field(default=1.0, ge=0, le=60, description="Wait after each toggle.")
    metric: Literal["auto", "p95_s", "mean_s", "geomean_s", "cpu_per_request"] = Field(
        default="auto",
        description="What a change is judged by; auto: the p95 of the endpoint that suffers, the geometric mean of all requests where most traffic does.",
    )
    guards: Literal["auto", "harm", "non-inferiority"] = Field(
        default="auto",
        description="harm: a guard (errors, p99, CPU, other endpoints) fails on evidence of harm; non-inferiority: also where it was not shown to hold; auto: the latter in production.",
    )
    effect_min: float = Field(default=0.05, ge=0, le=1, description="Smallest relative improvement worth keeping.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    timeout_s: TimeoutS = 10.0
    connect_timeout_s: TimeoutS | None = Field(default=None, description="Of opening a connection; empty: timeout_s.")
    first_byte_timeout_s: TimeoutS | None = Field(default=None, description="Of the first byte of an answer; empty: timeout_s.")
    connections_max: int = Field(default=256, ge=1, le=50_000)
    source_addresses: tuple[str, ...] = Field(default=(), description="Local addresses to connect from, in turn: one has 28,232 ports.")
    generator_processes: int = Field(default=1, ge=1, le=256, description="Processes that send the load, for a machine with several free cores.")
    throughput: bool = Field(default=True, description="Search the highest rate that keeps the SLO, before and after.")
    experiments: bool = Field(default=True, description="Run the experiments that confirm or refute findings.")
    seed: int = 1


class LimitsConfig(Word):
    """Hard limits."""

    time_max_s: float = Field(default=900.0, ge=30, le=86_400, description="Budget of one improve.")
    rate_max_per_s: RatePerS = 500.0
    error_rate_stop: float = Field(default=0.5, gt=0, le=1, description="Load stops at once when more than this share of its requests (50 or more) failed.")
    change_lease_s: float = Field(default=60.0, ge=5, le=300, description="A change whose lease is not renewed for this long is undone.")
    undo_max_s: float = Field(default=300.0, ge=5, le=300)
    changes_max: int = Field(default=8, ge=0, le=100)
    disk_max_bytes: int = Field(default=2 * 2**30, ge=2**20)
    runs_max: int = Field(default=200, ge=1)


class CapacityConfig(Word):
    """What perfloop capacity cannot measure."""

    pool_size: int | None = Field(
        default=None, ge=1, le=100_000, description="Connections of the service's pool; empty: from the setting that answers pool-exhausted."
    )
    instances: str = Field(default="", description="A table of instance shapes and prices (TOML); empty: the one that comes with perfloop.")
    startup_s: float | None = Field(
        default=None, ge=0, le=3_600, description="Seconds from a replica's start until it is ready; empty: measured where a restart is allowed, else 30."
    )
    levels: tuple[int, ...] = Field(default=(1, 2, 4, 8, 16, 32), max_length=32, description="Users of the sweep that the scalability law is fitted to.")


class RuleConfig(Word):
    """One rule: switched off, or its thresholds overridden by the names its page lists."""

    enabled: bool = True
    thresholds: dict[str, float] = {}


class IncidentsConfig(Word):
    """Where critical regressions and failed undos go; kept on disk until delivered."""

    webhook: str = Field(default="", pattern=r"^$|^https?://", description="Gets each event as JSON.")
    webhook_secret: str = Field(default="", pattern=r"^$|" + SECRET_REFERENCE, description="Signs it: X-Perfloop-Signature is the HMAC-SHA-256 of the body.")
    alertmanager: str = Field(default="", pattern=r"^$|^https?://", description="Base URL of an Alertmanager (API v2).")
    pagerduty_key: str = Field(
        default="", pattern=r"^$|" + SECRET_REFERENCE, description="Reference to the routing key of a PagerDuty integration (Events API v2)."
    )
    pagerduty_url: str = Field(default="https://events.pagerduty.com/v2/enqueue", pattern=r"^https?://")


class Config(Word):
    """The whole configuration; everything is optional."""

    target: TargetConfig = TargetConfig()
    journeys: tuple[JourneyConfig, ...] = ()
    slo: Slo = Slo()
    measure: MeasureConfig = MeasureConfig()
    hooks: HooksConfig = HooksConfig()
    workers: WorkersConfig = WorkersConfig()
    changes: ChangesConfig = ChangesConfig()
    candidates: tuple[CandidateConfig, ...] = ()
    gate: GateConfig = GateConfig()
    limits: LimitsConfig = LimitsConfig()
    capacity: CapacityConfig = CapacityConfig()
    rules: dict[str, RuleConfig] = {}
    incidents: IncidentsConfig = IncidentsConfig()
    user: str = Field(default="performance-engineer-agent", description="Who is named in the audit log.")
