"""Memcached on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.server import Server, free_port, program, started


@contextmanager
def memcached(folder: Path, *options: str) -> Iterator[Server]:
    """A server of 64 MB; ``options`` as memcached takes them (``-m``, ``8``)."""
    port = free_port()
    with started("memcached", [program("memcached"), "-l", "127.0.0.1", "-p", str(port), "-u", "root", *options], port, folder) as server:
        yield server
