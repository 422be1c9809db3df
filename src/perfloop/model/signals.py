"""Further words of evidence: disks, control groups, what threads wait for, listen queues, garbage collection, and one answer of each endpoint.

All counts and times are deltas over the observation's own window (``window_s``) unless the name says otherwise.
"""

from __future__ import annotations

from perfloop.model.base import Word


class DiskLoad(Word):
    """One block device. ``busy_share``: of the window with at least one request under way; ``queue_mean``: requests under way on average."""

    name: str
    busy_share: float
    queue_mean: float
    reads: int
    writes: int
    read_bytes: int
    written_bytes: int
    wait_mean_ms: float | None = None  # of one request, queueing included; None where there was none


class OtherProcess(Word):
    """A process that is no part of the service and used CPU in the window. ``related``: it is perfloop, or what the service talks to, or a child of one of them.
    ``yields``: it takes only CPU that nobody else wants (SCHED_IDLE, or nice 19), so that it is no neighbour to blame."""

    pid: int
    name: str
    cpu_s: float
    cpus: tuple[int, ...] = ()  # where it may run
    related: bool = False
    yields: bool = False


class CgroupObservation(Word):
    """The control group of the service (version 1 or 2), the nearest with a limit. Events are those of the window; None where the kernel does not tell."""

    window_s: float
    path: str
    version: int
    cpu_limit_cores: float | None = None
    periods: int = 0
    throttled_periods: int = 0
    throttled_s: float = 0.0
    memory_limit_bytes: int | None = None
    memory_used_bytes: int | None = None  # page cache included, at the end
    memory_limit_hits: int | None = None  # times that the limit made the kernel reclaim
    oom_kills: int | None = None
    processes: int | None = None
    processes_limit: int | None = None


class ThreadWait(Word):
    """Threads of the service in one state: ``syscall`` is what they are in (empty where they run, or where the kernel does not tell), ``peer`` who is at the other end of its descriptor.

    ``samples`` are thread-samples; divided by the observation's ``samples`` they are threads at any moment.
    """

    state: str  # R, S, D …
    syscall: str = ""
    peer: str = ""  # host:port, a path, or "listen"
    kind: str = ""  # PeerKind, "client" (it serves), "file", "pipe" …
    samples: int = 0


class WaitsObservation(Word):
    """What all threads of one process were doing, sampled from /proc, for any language and without stopping it."""

    window_s: float
    pid: int
    samples: int
    threads: tuple[ThreadWait, ...]


class ListenQueue(Word):
    """The queue of connections that the service has not accepted yet: the longest that was seen, and its bound."""

    port: int
    longest: int
    bound: int


class CollectorObservation(Word):
    """The garbage collector of one Python process: looked at ``samples`` times, it was collecting in ``collecting`` of them. ``collections`` by generation, youngest first."""

    window_s: float
    pid: int
    samples: int
    collecting: int
    collections: tuple[int, ...] = ()


class ResponseObservation(Word):
    """One answer of an endpoint to a client that accepts gzip. ``items``: elements of its longest JSON array; ``gzip_bytes``: what gzip would make of a body that came uncompressed."""

    step: str
    status: int
    body_bytes: int
    content_type: str = ""
    content_encoding: str = ""
    closes: bool = False  # it closes the connection after each answer
    items: int | None = None
    gzip_bytes: int | None = None
    cut: bool = False  # the body was larger than what was read


__all__ = ["CgroupObservation", "CollectorObservation", "DiskLoad", "ListenQueue", "OtherProcess", "ResponseObservation", "ThreadWait", "WaitsObservation"]
