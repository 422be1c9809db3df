"""Load tools of others as engines: Locust and k6 run the scripts that people have, in processes and an environment of their own, and what they tell is counted as ours.

The tool decides how its script sends; perfloop bounds it (time, users, error rate, addresses), ends it with ``perfloop stop``, Ctrl-C or its own death, and reads every request.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Protocol

from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.engines import http
from perfloop.load.engines.base import End, Second
from perfloop.load.engines.child import Child
from perfloop.load.engines.recorder import Recorder
from perfloop.load.targets import addresses_of
from perfloop.model.journey import Workload

WORKER = "perfloop.load.engines.tool_worker"
Network = IPv4Network | IPv6Network


@dataclass
class Told:
    """What a tool has said so far, on the clock of the epoch."""

    recorder: Recorder
    started_s: float = 0.0
    ended_s: float = 0.0
    users: int = 0


@dataclass(frozen=True)
class Command:
    """How a tool is started; its figures come on ``/dev/fd/N`` of the descriptor that the worker hands it, or on its standard output."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    on_stdout: bool = False


class Tool(Protocol):
    """A module that knows one tool."""

    ID: str
    PARALLEL: bool  # it uses several cores by itself
    FINE: Mapping[int, str]  # exit codes that end a test well, and what each means beyond that

    def command(self, plan: Mapping[str, Any], program: str, fd: int) -> Command:
        """The command line for a workload."""
        ...

    def take(self, line: bytes, told: Told) -> None:
        """One line that the tool wrote; ``ValueError`` for one that it cannot have written."""
        ...


def program_of(name: str) -> str:
    """The tool's program, beside our Python or on the PATH; empty where there is none."""
    beside = Path(sys.executable).parent / name
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(name) or ""


def missing(name: str, what: str, fix: str) -> CannotMeasure:
    """The error for a tool that is not installed."""
    return CannotMeasure(f"{name} is not installed", why=f"{what}, and only {name} can run it", fix=fix)


def run(workload: Workload) -> Generator[Second, None, End]:
    """One window by a worker that starts the tool; as ``http.send``."""
    if workload.script is None or not Path(workload.script.file).is_file():
        raise UsageError("there is no script to run", fix="give it with --source FILE")
    child = Child(WORKER, workload.run_id)
    try:
        child.tell(workload.model_dump_json())
        return (yield from http.follow([child]))
    finally:
        child.close()


def forbidden(base_url: str) -> list[str]:
    """All networks but loopback and the target's own addresses: what a script must not reach."""
    allowed: list[Network] = [ip_network("127.0.0.0/8"), ip_network("::1/128"), *(ip_network(address) for address in target_addresses(base_url))]
    found: list[Network] = []
    for whole in (ip_network("0.0.0.0/0"), ip_network("::/0")):
        left = [whole]
        for network in (one for one in allowed if one.version == whole.version):
            left = [part for piece in left for part in (piece.address_exclude(network) if network.subnet_of(piece) else [piece])]  # type: ignore[arg-type]
        found += [part for part in left if not any(part.version == one.version and part.subnet_of(one) for one in allowed)]  # type: ignore[arg-type]
    return [str(network) for network in found]


def target_addresses(base_url: str) -> list[str]:
    """The target's addresses, as text."""
    return [str(getattr(parsed, "ipv4_mapped", None) or parsed) for parsed in map(ip_address, addresses_of(base_url))]
