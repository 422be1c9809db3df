"""What each verb can be asked: one model per verb. The command line's options, the MCP schemas and the docs are generated from these, so each knob is written once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from perfloop.model.agent_requests import AgentRequest as AgentRequest
from perfloop.model.agent_requests import ContextRequest as ContextRequest
from perfloop.model.agent_requests import McpRequest as McpRequest
from perfloop.model.agent_requests import RunRequest as RunRequest
from perfloop.model.agent_requests import UiRequest as UiRequest
from perfloop.model.limits import RatePerS, Users, parse_duration_s
from perfloop.model.loadtest import LoadKind
from perfloop.model.record_requests import BaselineRequest as BaselineRequest
from perfloop.model.record_requests import CompareRequest as CompareRequest
from perfloop.model.record_requests import DiagnoseRequest as DiagnoseRequest
from perfloop.model.record_requests import GateRequest as GateRequest
from perfloop.model.record_requests import HistoryRequest as HistoryRequest
from perfloop.model.record_requests import IndexesRequest as IndexesRequest
from perfloop.model.record_requests import LogRequest as LogRequest
from perfloop.model.record_requests import ReportRequest as ReportRequest
from perfloop.model.record_requests import RunsRequest as RunsRequest
from perfloop.model.record_requests import VerifyClaimsRequest as VerifyClaimsRequest
from perfloop.model.request_words import DURATION_MAX_S, DURATION_MIN_S, RAMP_UP_MAX_S, Budget, RunName, Url, check_url
from perfloop.model.request_words import Door as Door
from perfloop.model.request_words import Request as Request
from perfloop.model.target import Environment
from perfloop.model.try_request import TryRequest as TryRequest


class CheckRequest(Request):
    """Measure a service, find its bottleneck, report; sends traffic, changes nothing."""

    url: Url = ""
    environment: Environment | None = Field(default=None, description="How careful to be; empty: the configured one.")
    budget: Budget = ""
    rate_per_s: RatePerS | None = Field(
        default=None, description="Open arrival rate, 0.1 to 100,000 a second; empty: the configured one, else half of the measured knee."
    )
    no_throughput: bool = Field(default=False, description="Leave out the search for the highest rate that keeps the SLO.")
    strict: bool = Field(default=False, description="An inconclusive answer is a no.")
    output_dir: str = Field(default="", description="Folder that gets a copy of report.html and run.json.")
    no_input: Annotated[bool, Door(hidden=True)] = Field(default=False, description="Never ask; what would need an answer is not done.")

    @property
    def budget_s(self) -> float | None:
        """The budget in seconds, or None."""
        return parse_duration_s(self.budget) if self.budget else None


def check_test_duration(text: str) -> str:
    """10 s to 24 h as text (``90s``, ``2h``), returned unchanged; empty: the kind's own."""
    if text and not DURATION_MIN_S <= parse_duration_s(text) <= DURATION_MAX_S:
        raise ValueError(f"a duration of {text} is outside 10s to 24h")
    return text


def check_ramp_up(text: str) -> str:
    """0 s to 3,600 s as text, returned unchanged; empty: none."""
    if text and not 0 <= parse_duration_s(text) <= RAMP_UP_MAX_S:
        raise ValueError(f"a ramp-up of {text} is outside 0s to 1h")
    return text


class LoadRequest(Request):
    """One performance test of a kind: load, stress, spike, soak, volume, scalability, baseline or regression."""

    url: Url = ""
    kind: LoadKind = Field(default=LoadKind.LOAD, description="Which question the test answers.")
    environment: Environment | None = Field(default=None, description="How careful to be; empty: the configured one.")
    rate_per_s: RatePerS | None = Field(
        default=None, description="Open arrival rate, 0.1 to 100,000 a second; empty: the configured one, else half of the measured knee."
    )
    users: Users | None = Field(default=None, description="Closed load of this many users, 1 to 50,000, instead of a rate (load, soak).")
    duration: Annotated[str, AfterValidator(check_test_duration)] = Field(
        default="",
        description="10s to 24h: of the whole test (load, spike, soak, baseline), or of each level or probe (stress, volume, scalability). Empty: the kind's own.",
    )
    ramp_up: Annotated[str, AfterValidator(check_ramp_up)] = Field(
        default="", description="0s to 1h in which rate or users rise from 0, before what is judged."
    )
    levels: tuple[Annotated[int, Field(ge=1, le=1_000_000_000)], ...] = Field(
        default=(), max_length=32, description="Users (scalability) or sizes of the data (volume), e.g. 1,2,4,8."
    )
    factor: float = Field(default=5.0, ge=1.1, le=100, description="How many times the rate a spike is.")
    recovery: Annotated[str, AfterValidator(check_test_duration)] = Field(default="10s", description="A spike must be over this long after its end.")
    need_per_s: RatePerS | None = Field(
        default=None, description="The rate that a stress test must show to keep the SLO; empty: finding the break is the answer."
    )
    name: str = Field(default="main", description="Name of the baseline (baseline, regression).", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    source: str = Field(
        default="",
        description="File to take the requests from: OpenAPI, HAR, access log, journeys in Python, a locustfile (run by Locust) or a k6 script (run by k6).",
        max_length=4_096,
    )
    replay: bool = Field(default=False, description="Send an access log with its real gaps instead of a rate.")
    workers: str = Field(
        default="", description="Scheduler of dask.distributed whose workers send the load: tls://host:8786.", pattern=r"^$|^(tcp|tls)://[A-Za-z0-9.\[\]:-]+$"
    )
    take_over: bool = Field(default=False, description="The share of a lost worker is sent by the others from then on.")
    strict: bool = Field(default=False, description="An inconclusive answer is a no.")
    output_dir: str = Field(default="", description="Folder that gets a copy of report.html and run.json.")
    no_input: Annotated[bool, Door(hidden=True)] = Field(default=False, description="Never ask; what would need an answer is not done.")

    @property
    def duration_s(self) -> float | None:
        """The duration in seconds, or None."""
        return parse_duration_s(self.duration) if self.duration else None

    @property
    def ramp_up_s(self) -> float:
        """The ramp-up in seconds."""
        return parse_duration_s(self.ramp_up) if self.ramp_up else 0.0


class ImproveRequest(CheckRequest):
    """The whole loop: measure, find, change, prove, keep or undo, and look again."""

    yes: bool = Field(default=False, description="Answer yes to the changes that ask.")


def check_growth(text: str) -> str:
    """A growth of 1 to 1,000 times as text (``10x``, ``3.5``), returned unchanged; ``ValueError`` names the value and the bound."""
    if text:
        try:
            factor = float(text.lower().removesuffix("x"))
        except ValueError:
            raise ValueError(f"{text!r} is no growth; write 10x") from None
        if not 1 <= factor <= 1_000:
            raise ValueError(f"a growth of {text} is outside 1x to 1000x")
    return text


class CapacityRequest(CheckRequest):
    """How far the service goes, what ends it, what to add and what that costs; sends traffic up to its end, changes nothing."""

    growth: Annotated[str, AfterValidator(check_growth)] = Field(
        default="", description="How many times the load now to plan for, 1x to 1000x; empty: from --history, else 10x."
    )
    months: float = Field(default=12.0, ge=0.1, le=120, description="In which the growth comes, or how far to forecast.")
    now_per_s: RatePerS | None = Field(default=None, description="The load at its busiest now; empty: from --history, else the configured rate.")
    history: str = Field(
        default="", description="An access log whose hours show the load and its growth; empty: target.access_log, else stored runs.", max_length=4_096
    )
    gentle: bool = Field(default=False, description="Stay at 40 % of the predicted saturation (always so in production): predict the end, do not measure it.")
    right_size: bool = Field(
        default=False, description="Try smaller CPU and memory limits on the service's control group under the load now, and undo them (never in production)."
    )
    replicas: str = Field(default="", pattern=r"^[0-9,]*$", max_length=40, description="Also sweep copies behind nginx, as 1,2,3 (by gate.start_command).")
    rounds: int = Field(default=3, ge=2, le=20, description="Rounds of the sweeps; more make the intervals narrower.")

    @property
    def growth_factor(self) -> float:
        """The growth as a number; 10 where none was given."""
        return float(self.growth.lower().removesuffix("x")) if self.growth else 10.0


class DoctorRequest(Request):
    """What can be measured and changed here, with the command that closes each gap."""

    url: Url = ""
    environment: Environment | None = Field(default=None, description="How careful to be; empty: the configured one.")


class PlanRequest(Request):
    """Write a plan of changes from a run's findings; applies nothing."""

    finding: Annotated[str, Door(argument=True)] = Field(default="", description="Id of one finding's rule; empty: all findings.")
    run: RunName = "last"


class ApplyRequest(Request):
    """Apply a saved plan under journal and watchdog, prove each change, keep or undo it."""

    plan: Annotated[str, Door(argument=True)] = Field(description="Id or file of a saved plan.", min_length=1, max_length=4_096)
    yes: bool = Field(default=False, description="Answer yes to the changes that ask.")
    budget: Budget = ""
    strict: bool = Field(default=False, description="An inconclusive answer is a no.")
    no_input: Annotated[bool, Door(hidden=True)] = Field(default=False, description="Never ask; what would need an answer is not done.")

    @property
    def budget_s(self) -> float | None:
        """The budget in seconds, or None."""
        return parse_duration_s(self.budget) if self.budget else None


class QueryRequest(Request):
    """Look at one query: its plan, where its time goes, why it is slower than it was, and the fix; with --fix applied and proved."""

    query: Annotated[str, Door(argument=True)] = Field(
        description="One SELECT, an id of pg_stat_statements, or a PostgreSQL log file (its dearest SELECT).", min_length=1, max_length=200_000
    )
    was: str = Field(
        default="",
        description="When it was fast: a run's id, a baseline's name, a date (2026-01-31), first or last. Empty: the stored snapshots are searched.",
        max_length=4_096,
    )
    was_query: str = Field(default="", description="The statement as it was then, where its text changed too.", max_length=200_000)
    values: tuple[str, ...] = Field(default=(), description="Values for $1, $2 … of the query, separated by commas.")
    database: str = Field(
        default="", pattern=r"^$|^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$", description="Reference to the DSN (env:NAME or file:PATH). Empty: target.postgres."
    )
    timeout: str = Field(default="30s", description="Time for all executions of the query, 100ms to 5min.")
    no_run: bool = Field(default=False, description="Plan it only; do not execute it.")
    as_superuser: bool = Field(default=False, description="Look with a role that is a superuser or has pg_* grants, which is refused otherwise.")
    fix: bool = Field(default=False, description="Apply the first fix that is safe by target.postgres_admin, prove it, keep or undo it.")
    yes: bool = Field(default=False, description="Answer yes to the changes that ask.")
    environment: Environment | None = Field(default=None, description="How careful to be; empty: the configured one.")

    @property
    def timeout_s(self) -> float:
        """The time for all executions, in seconds."""
        seconds = parse_duration_s(self.timeout)
        if not 0.1 <= seconds <= 300:
            raise ValueError(f"a timeout of {self.timeout} is outside 100ms to 5min")
        return seconds


class RollbackRequest(Request):
    """Undo changes that were kept, are open, or are stuck."""

    change: Annotated[str, Door(argument=True)] = Field(default="", description="Id of the change; empty: what is open for this target.")
    all: bool = Field(default=False, description="Every change in the journal that is not undone, kept ones included.")
    show: bool = Field(default=False, description="Print the commands that would undo it, and do nothing.")
    settled: bool = Field(default=False, description="A stuck change was put right by hand: close it, touch nothing. Audited.")
    reason: str = Field(default="", description="With --settled: what was done, for the audit log.", max_length=1_000)


class ApprovalsRequest(Request):
    """List, give or revoke approvals that are remembered."""

    kind: Annotated[str, Door(argument=True)] = Field(default="", description="Kind of change to approve; empty: list.", max_length=100)
    url: Annotated[str, AfterValidator(check_url)] = Field(default="", description="The target; empty: the configured one.", max_length=2_000)
    environment: Environment | None = Field(default=None, description="Where it holds; empty: the configured one.")
    by: str = Field(default="", description="Who approves; empty: changes.approved_by.", max_length=200)
    revoke: str = Field(default="", description="Id of an approval to revoke.", max_length=100)


class StopRequest(Request):
    """End the load of a run at once, by the ids of its own processes; what was measured is kept."""

    run: Annotated[str, Door(argument=True)] = Field(default="", description="Id of the run; empty: all load that runs on this machine.", max_length=200)


class ExplainRequest(Request):
    """The page of a rule, a change kind or an exit code."""

    id: Annotated[str, Door(argument=True)] = Field(
        default="", description="Rule id, change kind, or exit code; empty: what there is to explain.", max_length=100
    )


class InitRequest(Request):
    """Write a perfloop.toml from what can be discovered."""

    url: Url = ""
    force: bool = Field(default=False, description="Overwrite an existing file.")


Problem = Literal[
    "missing-index",
    "n-plus-one",
    "pool-exhausted",
    "event-loop-blocked",
    "cpu-hot-spot",
    "superlinear",
    "memory-leak",
    "lock-contention",
    "cache-ineffective",
    "slow-downstream",
]


class DemoRequest(Request):
    """Start the bundled slow service and run the whole loop on it."""

    problems: tuple[Problem, ...] = Field(default=(), description="Problems to switch on, by name, separated by commas; empty: the demo's own choice.")
    keep: bool = Field(default=False, description="Leave the service running and its data in place.")
    work_dir: str = Field(default="", description="Folder for the demo's database and files; empty: .demo here.")
    budget: Budget = ""

    @property
    def budget_s(self) -> float | None:
        """The budget in seconds, or None."""
        return parse_duration_s(self.budget) if self.budget else None
