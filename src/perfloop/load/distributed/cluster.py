"""The cluster before a test: reached safely, the same version everywhere, clocks measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from perfloop import __version__
from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.distributed import shard
from perfloop.model.base import SCHEMA_VERSION
from perfloop.model.config import WorkersConfig

CONNECT_S = 15
CLOCK_TRIPS = 7


@dataclass(frozen=True)
class Machine:
    """A worker, and its clock: ``offset_s`` is its time minus ours, known to within ``error_s`` (half of the shortest round trip)."""

    address: str
    name: str
    offset_s: float
    error_s: float


def connect(address: str, files: WorkersConfig) -> Any:
    """A client of the scheduler. ``UsageError`` where it is not on loopback and not TLS; ``CannotMeasure`` where it is not there."""
    try:
        from distributed import Client, Security
    except ImportError as error:
        raise CannotMeasure("load from many machines needs dask.distributed", why=str(error), fix="pip install 'perfloop[distributed]'") from error
    refuse_plain(address)
    security = None
    if address.startswith("tls://"):
        missing = [name for name in ("ca_file", "cert_file", "key_file") if not getattr(files, name)]
        if missing:
            raise UsageError(
                "TLS to the workers needs certificates",
                why=f"workers.{missing[0]} is empty",
                fix="set workers.ca_file, cert_file and key_file in perfloop.toml",
            )
        security = Security(  # type: ignore[no-untyped-call]
            tls_ca_file=files.ca_file, tls_client_cert=files.cert_file, tls_client_key=files.key_file, require_encryption=True
        )
    try:
        return Client(address, security=security, timeout=CONNECT_S, set_as_default=False, name="perfloop")  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise CannotMeasure(
            f"the scheduler {address} cannot be reached", why=str(error)[:300], fix="start it: dask scheduler; check the address and the certificates"
        ) from error


def refuse_plain(address: str) -> None:
    """``UsageError`` for an address beyond loopback without TLS: whoever reaches a plain scheduler runs code on its workers."""
    parts = urlsplit(address)
    if parts.scheme == "tls" or (parts.scheme in ("tcp", "inproc") and _loopback(parts.hostname or "")):
        return
    raise UsageError(
        f"{address} is not on this machine and not encrypted",
        why="workers run the code that they are sent, so beyond loopback TLS with certificates is required",
        fix="dask scheduler --protocol tls --tls-ca-file … --tls-cert … --tls-key …, and --workers tls://…",
    )


def machines(client: Any) -> tuple[Machine, ...]:
    """The workers, checked: encrypted where they are elsewhere, the same version as ours, with their clocks. ``CannotMeasure`` where there is none."""
    known: Mapping[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    if not known:
        raise CannotMeasure("the scheduler has no worker", fix="start some: dask worker tls://SCHEDULER:8786")
    for address in known:
        refuse_plain(address)
    answers = client.run(shard.about, on_error="return")
    for address, about in answers.items():
        if isinstance(about, Exception):
            raise CannotMeasure(
                f"the worker {address} cannot run perfloop", why=str(about)[:300], fix=f"install perfloop {__version__} with [distributed] there"
            )
        if (about["version"], about["schema"]) != (__version__, SCHEMA_VERSION):
            raise UsageError(
                f"the worker {address} has perfloop {about['version']}, we have {__version__}",
                why="results of different versions are not merged",
                fix="install the same version on all machines",
            )
    return tuple(_measured(client, address, str(known[address].get("name", address))) for address in sorted(known))


def _measured(client: Any, address: str, name: str) -> Machine:
    """The clock offset by the round trip that was shortest (as NTP does it)."""
    best = (float("inf"), 0.0)
    for _ in range(CLOCK_TRIPS):
        before = time.time()
        theirs = client.run(shard.clock, workers=[address])[address]
        after = time.time()
        best = min(best, (after - before, theirs - (before + after) / 2))
    return Machine(address, name, best[1], best[0] / 2)


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
