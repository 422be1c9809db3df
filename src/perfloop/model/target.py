"""What is there: the service, its processes, what they talk to, and where we are."""

from __future__ import annotations

from enum import StrEnum

from perfloop.model.base import Word


class Environment(StrEnum):
    """How careful to be; safeguards scale with it (mission: sandboxes skip tickets and on-call notices)."""

    SANDBOX = "sandbox"
    STAGING = "staging"
    PRODUCTION = "production"


class PeerKind(StrEnum):
    """What sits at the other end of a connection of the service."""

    POSTGRESQL = "postgresql"
    MYSQL = "mysql"
    REDIS = "redis"
    MEMCACHED = "memcached"
    MONGODB = "mongodb"
    HTTP = "http"
    UNKNOWN = "unknown"


class Peer(Word):
    """One remote address that the service's processes are connected to."""

    kind: PeerKind
    host: str
    port: int  # 0 for a Unix socket, whose path is then ``host``
    connections: int = 0
    pid: int | None = None  # the process that listens there, where it is local and visible
    process_name: str = ""


class Process(Word):
    """One process of the service. ``cpus`` are the cores it may run on; limits are None where there is none."""

    pid: int
    parent_pid: int
    name: str
    argv: tuple[str, ...]  # secrets redacted
    cwd: str
    exe: str
    runtime: str = "unknown"  # python, node, java, go, native …
    runtime_version: str = ""
    framework: str = ""  # uvicorn, gunicorn, flask, django …; empty where unknown
    started_s: float = 0.0  # seconds since boot: tells a restarted process from a reused pid
    threads: int = 0
    cpus: tuple[int, ...] = ()
    cpu_limit_cores: float | None = None
    memory_limit_bytes: int | None = None
    fd_limit: int | None = None
    cgroup: str = ""


class Target(Word):
    """The service under test, as discovered from its URL. ``processes`` is empty for a remote target; then ``unknown`` says what cannot be measured."""

    name: str
    url: str
    host: str
    port: int
    local: bool
    environment: Environment
    processes: tuple[Process, ...] = ()
    peers: tuple[Peer, ...] = ()
    server_header: str = ""
    git_revision: str = ""
    source_root: str = ""  # folder of the service's own code (cwd of the process), to tell its frames from a library's
    cpu_count: int = 1
    unknown: tuple[str, ...] = ()
