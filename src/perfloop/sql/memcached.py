"""Memcached's own counters by its text protocol: a few commands that only read."""

from __future__ import annotations

import socket

from perfloop.errors import CannotMeasure, UsageError

TIMEOUT_S = 5.0
ANSWER_MAX_BYTES = 4 * 2**20


def stats(address: str, of: str = "") -> dict[str, str]:
    """``stats`` (or ``stats items``, ``stats slabs``, ``stats settings``) of ``host:port``; CannotMeasure where it does not answer."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or of not in ("", "items", "slabs", "settings"):
        raise UsageError(f"{address[:80]!r} is no address of a Memcached", fix="write host:port")
    data = b""
    try:
        with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
            connection.sendall(f"stats {of}".strip().encode() + b"\r\n")
            while not data.endswith(b"END\r\n"):
                part = connection.recv(65_536)
                data += part
                if not part or len(data) > ANSWER_MAX_BYTES or data.startswith((b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")):
                    raise CannotMeasure(
                        f"Memcached at {address} does not tell what it does", why=data[:100].decode(errors="replace"), fix="check that the text protocol is on"
                    )
    except OSError as error:
        raise CannotMeasure(f"Memcached at {address} is not there", why=error.strerror or str(error), fix="check host and port in target.memcached") from None
    rows = (line.split(" ", 2) for line in data.decode(errors="replace").splitlines() if line.startswith("STAT "))
    return {row[1]: row[2] for row in rows if len(row) == 3}
