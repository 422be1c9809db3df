"""Redis in memory, without persistence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.server import Server, free_port, program, started


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[Server]:
    """A server without persistence; ``options`` as redis-server takes them (``--requirepass``, ``geheim``)."""
    port = free_port()
    argv = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder), *options]
    with started("redis", argv, port, folder) as server:
        yield server
