"""What we saw. Probes only collect; rules are pure functions of this, so an old run can be diagnosed again.

All counts and times are deltas over the observation's own window (``window_s``) unless the name says otherwise.
"""

from __future__ import annotations

from typing import Any, Literal

from perfloop.model.base import SCHEMA_VERSION, Estimate, Word
from perfloop.model.calls import CallsObservation
from perfloop.model.engines import MemcachedObservation, MongoObservation, MysqlObservation, RedisObservation
from perfloop.model.health import PostgresHealth
from perfloop.model.run import StepSamples, Window
from perfloop.model.signals import CgroupObservation, CollectorObservation, DiskLoad, ListenQueue, OtherProcess, ResponseObservation, WaitsObservation
from perfloop.model.target import Target


class Unavailable(Word):
    """A probe that could not look: why (``reason``) and the command that would change that (``fix``)."""

    probe: str
    reason: str
    fix: str = ""


class HostObservation(Word):
    """The machine: utilisation, saturation, errors. PSI values are the share of the window in which some task stalled (0..1), None without PSI."""

    window_s: float
    cpu_count: int
    cpu_busy: tuple[float, ...]  # share busy by core, in core order
    steal_share: float = 0.0
    psi_cpu_some: float | None = None
    psi_memory_some: float | None = None
    psi_io_some: float | None = None
    memory_total_bytes: int = 0
    memory_available_bytes: int = 0
    swap_in_pages: int = 0
    swap_out_pages: int = 0
    listen_overflows: int = 0
    tcp_retransmits: int = 0
    tcp_segments_sent: int = 0
    tcp_opened: int = 0  # connections that this machine opened, as a client
    tcp_time_wait: int | None = None  # sockets in TIME_WAIT at the end
    ports_range: tuple[int, int] | None = None  # net.ipv4.ip_local_port_range
    psi_io_full: float | None = None
    psi_memory_full: float | None = None
    major_faults: int = 0
    disks: tuple[DiskLoad, ...] = ()
    others: tuple[OtherProcess, ...] = ()  # those that used most CPU


class ProcessObservation(Word):
    """One process of the service. ``rss_series`` are pairs (seconds since the window's start, resident bytes)."""

    window_s: float
    pid: int
    cpu_s: float
    run_delay_s: float = 0.0  # runnable but not running, summed over threads
    throttled_s: float = 0.0  # by the cgroup's CPU quota
    voluntary_switches: int = 0
    involuntary_switches: int = 0
    threads: int = 0
    fds: int = 0
    major_faults: int = 0
    minor_faults: int | None = None
    system_s: float | None = None  # of cpu_s, inside the kernel
    fd_limit: int | None = None
    swap_bytes: int | None = None  # of its memory, swapped out at the end
    read_bytes: int | None = None  # from disks, caches not counted
    written_bytes: int | None = None
    rss_series: tuple[tuple[float, int], ...] = ()
    children_pids: tuple[int, ...] = ()


class PeerTraffic(Word):
    """One remote address of the service, read from TCP_INFO of its sockets, for any language and without privileges.

    ``round_trips``: data segments that the service sent there (a request that fits one write is one). ``waiting_s``: summed time in which
    a connection had sent last and not yet received, from sampling; None where it was not sampled.
    """

    host: str
    port: int
    kind: str  # PeerKind
    connections: int
    round_trips: int
    bytes_sent: int = 0
    bytes_received: int = 0
    waiting_s: float | None = None
    rtt_ms: float | None = None
    opened: int | None = None  # connections to it that were opened in the window, those too short to be sampled included where they left TIME_WAIT
    time_wait: int | None = None  # to or from it, at the end


class SocketsObservation(Word):
    """Traffic of the service to each of its peers."""

    window_s: float
    samples: int
    peers: tuple[PeerTraffic, ...]
    listening: tuple[ListenQueue, ...] = ()


class Frame(Word):
    """One function on a stack: absolute file and the line being executed (0 where unknown)."""

    function: str
    file: str
    line: int


class Stack(Word):
    """One distinct stack of one thread, outermost frame first, as indexes into ``StacksObservation.frames``. ``total`` samples, of which ``active`` were on a CPU (or runnable), the rest waiting."""

    thread: str
    frames: tuple[int, ...]
    total: float
    active: float


class StacksObservation(Word):
    """Sampled stacks of one process. Seconds of a stack = samples / ``rate_hz``."""

    pid: int
    sampler: str
    rate_hz: float
    window_s: float
    frames: tuple[Frame, ...]
    stacks: tuple[Stack, ...]
    errors: int = 0


class QueryLoad(Word):
    """One normalised query. ``active_samples`` of ``PostgresObservation.samples`` saw a session running it; ``waits`` counts those by wait event (``Lock:transactionid``; ``CPU`` where there was none)."""

    query_id: str
    text: str  # with placeholders; literals removed
    active_samples: int
    waits: dict[str, int] = {}
    calls: int | None = None  # pg_stat_statements only, as are the next two
    total_s: float | None = None
    rows: int | None = None


class TableActivity(Word):
    """Counters of one table over the window, and its size and statistics now."""

    name: str  # schema.table
    seq_scan: int
    seq_tup_read: int
    idx_scan: int
    rows: int
    size_bytes: int
    dead_rows: int = 0
    last_analyze: str = ""
    indexes: tuple[str, ...] = ()  # definitions


class LockWait(Word):
    """Sessions seen waiting for a lock held by another: ``samples`` (session-samples) of ``waiting`` blocked by ``blocking`` (query texts, normalised)."""

    waiting_query_id: str
    waiting: str
    blocking: str
    relation: str
    samples: int


class QueryPlan(Word):
    """A plan by EXPLAIN (FORMAT JSON), never executed. ``generic`` where it was planned without parameter values."""

    query_id: str
    generic: bool
    plan: dict[str, Any]


class PostgresObservation(Word):
    """One PostgreSQL database that the service uses, sampled from pg_stat_activity at ``sample_hz``."""

    window_s: float
    host: str
    port: int
    database: str
    server_version: int  # as server_version_num
    samples: int
    sample_hz: float
    queries: tuple[QueryLoad, ...]
    tables: tuple[TableActivity, ...]
    locks: tuple[LockWait, ...] = ()
    plans: tuple[QueryPlan, ...] = ()
    sessions_max: int = 0  # of the service, at one moment
    sessions_active_mean: float = 0.0
    sessions_idle_in_transaction_mean: float = 0.0
    max_connections: int = 0
    commits: int = 0
    has_pg_stat_statements: bool = False


class SourceSnippet(Word):
    """The text of one function that was seen on a stack; ``first_line`` is the line of its ``def`` (or first decorator)."""

    file: str
    function: str
    first_line: int
    text: str


class SoloObservation(Word):
    """One step sent alone, one request after another: what it costs without queueing, and what it touches.

    The stacks and traffic in the same window belong to this step alone, which is how a function, a query count or a wait is attributed to an endpoint.
    """

    step: str
    window_s: float
    requests: int
    samples: StepSamples
    cpu_s: float | None = None  # of the service's processes
    processes: tuple[ProcessObservation, ...] = ()
    collector: tuple[CollectorObservation, ...] = ()
    sockets: SocketsObservation | None = None
    stacks: tuple[StacksObservation, ...] = ()
    calls: tuple[CallsObservation, ...] = ()


class ExperimentResult(Word):
    """What an experiment found. ``kind`` names the experiment, ``subject`` the rule and place it was run for; ``x`` and ``y`` are the raw points.

    ``supports`` is True where the hypothesis survived, False where it was refuted, None where the experiment could not tell (then ``note`` says why).
    """

    kind: str
    rule: str
    subject: str
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    x_unit: str = ""
    y_unit: str = ""
    estimate: Estimate | None = None
    supports: bool | None = None
    note: str = ""


class Evidence(Word):
    """Everything seen in one look at a target, stored as ``evidence.json`` and judged by pure rules."""

    schema_version: Literal[1] = SCHEMA_VERSION
    target: Target
    window: Window | None = None  # the load under which the probes looked
    baseline: Window | None = None  # undisturbed load of the same shape, the reference for times (windows merged)
    host: HostObservation | None = None
    processes: tuple[ProcessObservation, ...] = ()
    sockets: SocketsObservation | None = None
    stacks: tuple[StacksObservation, ...] = ()
    postgres: tuple[PostgresObservation, ...] = ()
    source: tuple[SourceSnippet, ...] = ()
    solo: tuple[SoloObservation, ...] = ()
    experiments: tuple[ExperimentResult, ...] = ()
    cgroup: CgroupObservation | None = None
    waits: tuple[WaitsObservation, ...] = ()
    collector: tuple[CollectorObservation, ...] = ()
    responses: tuple[ResponseObservation, ...] = ()
    unavailable: tuple[Unavailable, ...] = ()
    postgres_health: tuple[PostgresHealth, ...] = ()
    mysql: tuple[MysqlObservation, ...] = ()
    redis: tuple[RedisObservation, ...] = ()
    memcached: tuple[MemcachedObservation, ...] = ()
    mongodb: tuple[MongoObservation, ...] = ()
    calls: tuple[CallsObservation, ...] = ()
    extra: dict[str, Any] = {}  # observations of third-party probes, by probe id
