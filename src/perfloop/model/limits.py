"""The input bounds, in one place; every door and every model uses these types.

Source: the mission's table of accepted input. Each message names the value and the bound, and nothing has run when it is raised.
"""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

Users = Annotated[int, Field(ge=1, le=50_000)]
DurationS = Annotated[float, Field(ge=10, le=86_400)]
RampUpS = Annotated[float, Field(ge=0, le=3_600)]
RatePerS = Annotated[float, Field(ge=0.1, le=100_000)]
CpuCores = Annotated[float, Field(ge=0.1, le=64)]
DiskIops = Annotated[int, Field(ge=100, le=10_000)]
CacheTtlS = Annotated[float, Field(ge=1, le=30 * 86_400)]
TimeoutS = Annotated[float, Field(ge=0.1, le=300)]

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|min|h|d)?$")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, None: 1.0}
_MEMORY = re.compile(r"^(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti)?$")
_MEMORY_UNIT = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, None: 1}
MEMORY_MIN_BYTES, MEMORY_MAX_BYTES = 128 * 2**20, 512 * 2**30


def parse_duration_s(text: str) -> float:
    """Seconds from ``250ms``, ``30s``, ``5m``, ``2h``, ``1d`` or a bare number of seconds; ``ValueError`` names the text."""
    match = _DURATION.match(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a duration; write 250ms, 30s, 5m, 2h or 1d")
    return float(match[1]) * _UNIT_S[match[2]]


def parse_memory_bytes(text: str) -> int:
    """Bytes from ``512Mi`` or ``2Gi``; ``ValueError`` where it is no size or outside 128Mi to 512Gi."""
    match = _MEMORY.match(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a memory size; write 512Mi or 2Gi")
    size = int(float(match[1]) * _MEMORY_UNIT[match[2]])
    if not MEMORY_MIN_BYTES <= size <= MEMORY_MAX_BYTES:
        raise ValueError(f"memory limit {text} is outside 128Mi to 512Gi")
    return size


STORE_SCHEMES = ("postgresql://", "mysql://", "mariadb://", "redis://")
_SCHEMES = r"(?P<scheme>mysql|mariadb|postgresql|mongodb|redis)"
_HOST = r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])"
_NAME = r"(?P<name>[A-Za-z0-9_-]+)"
_TLS = r"(?P<tls>\?(?:(?:sslmode|sslrootcert|sslcert|sslkey|ssl|tls|tlsCAFile|ssl_ca|ssl_cert|ssl_key|ssl_cert_reqs|ssl_ca_certs)=[A-Za-z0-9_./-]+&?)+)?"
_CONNECTION = re.compile(rf"^{_SCHEMES}://{_HOST}:(?P<port>\d{{1,5}})(?:/{_NAME})?{_TLS}$")
_SOCKET = re.compile(rf"^{_SCHEMES}://(?P<socket>/[A-Za-z0-9_./-]+):(?P<port>\d{{1,5}})?/?{_NAME}?{_TLS}$")


def check_connection(text: str) -> str:
    """A database address without credentials, as ``scheme://host:port/name``; returned unchanged.

    ``ValueError`` names the part that is wrong and never repeats a password: credentials belong in the environment or a secret file.
    """
    if "@" in text:
        raise ValueError(
            "a connection string must not contain credentials; put them in the environment or a secret file and refer to them (env:NAME, file:PATH)"
        )
    match = _CONNECTION.match(text) or _SOCKET.match(text)
    if not match:
        raise ValueError(
            f"{text[:80]!r} is not scheme://host:port/name with scheme mysql, mariadb, postgresql, mongodb or redis, a host of letters, digits, '.' and '-', and a name of letters, digits, '_' and '-'"
        )
    if match["port"] and not 1 <= int(match["port"]) <= 65_535:
        raise ValueError(f"port {match['port']} is outside 1 to 65535")
    if not match["name"] and match["scheme"] != "redis":
        raise ValueError(f"{text[:80]!r} names no database")
    return text


class Place(NamedTuple):
    """The parts of a connection string: ``socket`` instead of host and port where it names one, ``options`` are TLS options by name."""

    scheme: str
    host: str
    port: int
    name: str
    socket: str
    options: dict[str, str]


def place_of(text: str) -> Place:
    """The parts of a connection string; ``ValueError`` as ``check_connection``."""
    match = _CONNECTION.match(check_connection(text)) or _SOCKET.match(text)
    assert match is not None
    found = {"host": "", "socket": "", "port": "", **{name: value or "" for name, value in match.groupdict().items()}}
    options = dict(pair.split("=", 1) for pair in found["tls"].lstrip("?").split("&") if pair)
    scheme = "mysql" if found["scheme"] == "mariadb" else found["scheme"]
    return Place(scheme, found["host"].strip("[]"), int(found["port"] or 0), found["name"] or "", found["socket"], options)


def is_store(url: str) -> bool:
    """True for the address of a database or cache that load can be sent to directly; False for HTTP."""
    return url.startswith(STORE_SCHEMES)


Connection = Annotated[str, AfterValidator(check_connection)]
