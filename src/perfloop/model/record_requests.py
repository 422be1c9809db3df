"""What the verbs that work on stored runs, and on two commits, can be asked."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from perfloop.model.limits import RatePerS
from perfloop.model.request_words import Door, Request, RunName, Url


class BaselineRequest(Request):
    """Keep a run as a named reference, list the references, or drop one."""

    name: Annotated[str, Door(argument=True)] = Field(default="main", description="Name of the baseline.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    run: RunName = "last"
    list: bool = Field(default=False, description="List the baselines.")
    drop: bool = Field(default=False, description="Drop the named baseline; the run itself stays.")


class DiagnoseRequest(Request):
    """Judge the stored evidence of a run again, or rank causes from CSV files of metrics; no traffic."""

    run: Annotated[RunName, Door(argument=True)] = "last"
    metrics: tuple[Annotated[str, Field(min_length=1, max_length=4_096)], ...] = Field(
        default=(), max_length=2, description="CSV files of metrics to rank causes from instead: one (its onset is searched), or BEFORE.csv AFTER.csv."
    )

    @property
    def metric_files(self) -> tuple[str, ...]:
        """The CSV files; a second one may stand as the argument."""
        return (*self.metrics, self.run) if len(self.metrics) == 1 and self.run != "last" else self.metrics


class CompareRequest(Request):
    """Compare run B with run A."""

    a: Annotated[RunName, Door(argument=True)]
    b: Annotated[RunName, Door(argument=True)] = "last"
    strict: bool = Field(default=False, description="An inconclusive answer is a no.")


class GateRequest(Request):
    """Measure two states of the code interleaved on this machine, and say whether the newer one is slower or over a budget."""

    against: str = Field(default="HEAD~1", min_length=1, max_length=200, description="The git reference to compare with.")
    candidate: str = Field(default="", max_length=200, description="The git reference that is judged; empty: the working tree as it stands.")
    rate_per_s: RatePerS | None = Field(default=None, description="Open arrival rate; empty: the configured one.")
    strict: bool = Field(default=False, description="An inconclusive answer is a no (exit 1 instead of 4).")
    junit: str = Field(default="", max_length=4_096, description="File that gets the answer as JUnit XML.")
    markdown: str = Field(default="", max_length=4_096, description="File that gets the answer as Markdown for the pull request.")


class HistoryRequest(Request):
    """Where the stored runs' figures moved to another level."""

    url: Url = ""
    limit: int = Field(default=200, ge=12, le=1_000, description="How many of the newest runs are looked at.")
    effect_min: float = Field(default=0.02, ge=0, le=1, description="Smaller changes of level are not reported; 0.02: 2 %.")
    strict: bool = Field(default=False, description="Exit 1 where a figure stands at a worse level than before its last change.")
    confirm: bool = Field(default=False, description="Measure both commits of the newest change for the worse side by side, as gate does.")


class VerifyClaimsRequest(Request):
    """Check each performance figure of a text against stored evidence."""

    file: Annotated[str, Door(argument=True)] = Field(
        description="The text: a pull request, an agent's report. - reads from stdin.", min_length=1, max_length=4_096
    )
    run: RunName = Field(
        default="", description="The run it is about: its id, last, baseline:NAME, or all. Empty: the runs that the text names, else the last one."
    )


class ReportRequest(Request):
    """Render a stored run."""

    run: Annotated[RunName, Door(argument=True)] = "last"
    format: str = Field(default="html", description="html, markdown (md), json, junit or terminal, or a format that a plug-in brings.")


class RunsRequest(Request):
    """List the stored runs, newest first."""

    limit: int = Field(default=50, ge=1, le=1_000, description="How many.")


class LogRequest(Request):
    """Read or verify the audit log."""

    limit: int = Field(default=20, ge=1, le=10_000, description="How many entries, newest last.")
    verify: bool = Field(default=False, description="Check every entry, the chain, and the anchors in the runs stored here.")
    anchor: str = Field(default="", description="With --verify: an anchor (KEY:LINES:HASH) that was kept elsewhere.", max_length=200)
    make_key: bool = Field(default=False, description="Make an Ed25519 key that signs the log's head from now on, and print its public key.")


class IndexesRequest(Request):
    """Which indexes a workload wants and which it does not need, by the planner twin; changes nothing."""

    workload: Annotated[str, Door(argument=True)] = Field(
        default="", description="File of SELECTs, or a log of slow statements. Empty: what pg_stat_statements counted.", max_length=4_096
    )
    since: str = Field(
        default="", description="A stored catalogue snapshot (name, date or baseline): the workload is what was counted since then.", max_length=200
    )
    min_gain: float = Field(default=0.01, ge=0.0, le=0.5, description="The least gain of an index, as a share of the whole workload's cost.")
    unused_days: float = Field(
        default=0.0,
        ge=0.0,
        le=3_650.0,
        description="Also name indexes that nothing has used for so many days, on the primary and all replicas given. 0: not judged.",
    )
    replicas: tuple[str, ...] = Field(
        default=(), max_length=20, description="References to the DSNs of the replicas (env:NAME or file:PATH), for --unused-days."
    )
    storage_mb: float = Field(default=1_000.0, ge=0.1, le=10_000_000.0, description="Room for new indexes, in MB of 10^6 bytes.")
    sample: bool = Field(
        default=False, description="Allow a sample of at most 30,000 rows a table, to tell how many distinct values several columns have together."
    )
    database: str = Field(
        default="", pattern=r"^$|^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$", description="Reference to the DSN (env:NAME or file:PATH). Empty: target.postgres."
    )
    as_superuser: bool = Field(default=False, description="Look with a role that is a superuser or has pg_* grants, which is refused otherwise.")
