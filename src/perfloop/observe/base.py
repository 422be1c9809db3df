"""What a probe is, what it may use, and what a look returns.

A probe is a module with ``ID``, ``NEEDS``, ``COST`` and ``start``. ``start`` does what is slow (connect, attach) and returns a :class:`Session`;
the observed window lies between ``Session.begin`` and ``Session.finish``, so that nothing outside it is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from perfloop.model.base import Word
from perfloop.model.calls import CallsObservation
from perfloop.model.engines import MemcachedObservation, MongoObservation, MysqlObservation, RedisObservation
from perfloop.model.evidence import (
    Evidence,
    HostObservation,
    PostgresObservation,
    ProcessObservation,
    SocketsObservation,
    SourceSnippet,
    StacksObservation,
    Unavailable,
)
from perfloop.model.health import PostgresHealth
from perfloop.model.signals import CgroupObservation, CollectorObservation, WaitsObservation
from perfloop.model.target import PeerKind, Target

WINDOW_MAX_S = 600.0

Observation = Word


@dataclass(frozen=True)
class Access:
    """What the probes may use. ``pids`` are the service's processes now, children included; ``postgres_dsn`` is a secret, hidden from every text."""

    pids: tuple[int, ...] = ()
    postgres_dsn: str = field(default="", repr=False)
    mysql_dsn: str = field(default="", repr=False)
    redis_dsn: str = field(default="", repr=False)
    memcached: str = ""  # host:port, it has no credentials
    mongodb_documents: str = ""  # a file
    source_root: str = ""  # folder of the service's own code
    scratch_dir: str = ""  # for the sampler's output; the system's temporary folder where empty
    stacks_rate_hz: float = 100.0
    sockets_rate_hz: float = 25.0
    postgres_rate_hz: float = 20.0
    process_rate_hz: float = 5.0
    window_max_s: float = WINDOW_MAX_S  # every look ends by itself after this


class Session(Protocol):
    """A probe at work. The runner calls ``begin`` once, ``sample`` about every ``interval_s`` (never where it is None), ``finish`` once, and ``close`` always."""

    interval_s: float | None

    def begin(self) -> None:
        """The window starts now: read the counters."""

    def sample(self) -> None:
        """Look once."""

    def finish(self) -> Sequence[Observation]:
        """The window ends now: read the counters first, then do what takes longer. Errors become ``Unavailable`` in the runner."""

    def close(self) -> None:
        """Let go of processes, files and connections; called also when nothing began."""


class Nothing:
    """The session of a probe for a kind of server that this service does not talk to: it sees nothing, and nothing is missing."""

    interval_s = None

    def begin(self) -> None:
        """Nothing to read."""

    def sample(self) -> None:
        """Nothing between."""

    def finish(self) -> Sequence[Observation]:
        """Nothing was seen."""
        return ()

    def close(self) -> None:
        """Nothing is held."""


def talks_to(target: Target, kind: PeerKind) -> bool:
    """True where the service has a connection to such a server."""
    return any(peer.kind is kind for peer in target.peers)


class Probe(Protocol):
    """One source of evidence; the built-in ones are modules of ``perfloop.observe.probes``."""

    ID: str
    NEEDS: str  # what must be there, as a user would say it
    COST: str  # what it costs the service and this machine

    def start(self, target: Target, access: Access) -> Session | Unavailable:
        """Attach or connect; may take a second. ``Unavailable`` where it cannot look, with the command that changes that."""


@dataclass(frozen=True)
class ObservedParts:
    """What one look saw, sorted into the fields of :class:`~perfloop.model.evidence.Evidence`. ``window_s`` lies between the first probe's begin and the stop."""

    window_s: float = 0.0
    host: HostObservation | None = None
    processes: tuple[ProcessObservation, ...] = ()
    sockets: SocketsObservation | None = None
    stacks: tuple[StacksObservation, ...] = ()
    postgres: tuple[PostgresObservation, ...] = ()
    cgroup: CgroupObservation | None = None
    waits: tuple[WaitsObservation, ...] = ()
    collector: tuple[CollectorObservation, ...] = ()
    postgres_health: tuple[PostgresHealth, ...] = ()
    mysql: tuple[MysqlObservation, ...] = ()
    redis: tuple[RedisObservation, ...] = ()
    memcached: tuple[MemcachedObservation, ...] = ()
    mongodb: tuple[MongoObservation, ...] = ()
    calls: tuple[CallsObservation, ...] = ()
    unavailable: tuple[Unavailable, ...] = ()
    source: tuple[SourceSnippet, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def cpu_s(self) -> float | None:
        """CPU seconds of the service's processes in the window; None where no process was seen."""
        return sum(process.cpu_s for process in self.processes) if self.processes else None

    def with_source(self, source: tuple[SourceSnippet, ...]) -> ObservedParts:
        """The same with source snippets."""
        return replace(self, source=source)

    def into(self, evidence: Evidence) -> Evidence:
        """The evidence with these parts put in; what it already holds of other looks stays where this one saw nothing."""
        fields = (
            "host",
            "processes",
            "sockets",
            "stacks",
            "postgres",
            "source",
            "cgroup",
            "waits",
            "collector",
            "postgres_health",
            "mysql",
            "redis",
            "memcached",
            "mongodb",
            "calls",
        )
        seen = {name: value for name in fields if (value := getattr(self, name))}
        changed: Evidence = evidence.with_(**seen, unavailable=(*evidence.unavailable, *self.unavailable), extra={**evidence.extra, **self.extra})
        return changed


def sort_parts(found: Sequence[tuple[str, Sequence[Observation]]], window_s: float) -> ObservedParts:
    """Sort observations (by the probe that made them) into the fields of the evidence; other words go to ``extra`` under the probe's id."""
    seen = [(probe, word) for probe, words in found for word in words]
    extra: dict[str, Any] = {}
    known = (
        *(HostObservation, ProcessObservation, SocketsObservation, StacksObservation, PostgresObservation),
        *(CgroupObservation, WaitsObservation, CollectorObservation, Unavailable),
        *(PostgresHealth, MysqlObservation, RedisObservation, MemcachedObservation, MongoObservation, CallsObservation),
    )
    for probe, word in seen:
        if not isinstance(word, known):
            extra.setdefault(probe, []).append(word.model_dump(mode="json"))
    return ObservedParts(
        window_s=window_s,
        host=next((word for _, word in seen if isinstance(word, HostObservation)), None),
        processes=tuple(word for _, word in seen if isinstance(word, ProcessObservation)),
        sockets=next((word for _, word in seen if isinstance(word, SocketsObservation)), None),
        stacks=tuple(word for _, word in seen if isinstance(word, StacksObservation)),
        postgres=tuple(word for _, word in seen if isinstance(word, PostgresObservation)),
        cgroup=next((word for _, word in seen if isinstance(word, CgroupObservation)), None),
        waits=tuple(word for _, word in seen if isinstance(word, WaitsObservation)),
        collector=tuple(word for _, word in seen if isinstance(word, CollectorObservation)),
        postgres_health=tuple(word for _, word in seen if isinstance(word, PostgresHealth)),
        mysql=tuple(word for _, word in seen if isinstance(word, MysqlObservation)),
        redis=tuple(word for _, word in seen if isinstance(word, RedisObservation)),
        memcached=tuple(word for _, word in seen if isinstance(word, MemcachedObservation)),
        mongodb=tuple(word for _, word in seen if isinstance(word, MongoObservation)),
        calls=tuple(word for _, word in seen if isinstance(word, CallsObservation)),
        unavailable=tuple(word for _, word in seen if isinstance(word, Unavailable)),
        extra=extra,
    )
