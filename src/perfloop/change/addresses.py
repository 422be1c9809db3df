"""The network address inside a configured value: found and replaced, everything else (user, password, database, options) untouched and never shown. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from perfloop.errors import ChangeRefused

PORTS = {"postgresql": 5432, "mysql": 3306, "redis": 6379, "http": 80}
_URL = re.compile(r"^(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[^@/?#]*@)?(?P<host>\[[^\]]+\]|[^:/?#@,]*)(?::(?P<port>\d{1,5}))?(?=[/?#,]|$)", re.I)
_HOST_WORD = re.compile(r"(?:^|(?<=[\s;]))(?P<key>host|hostaddr|server)\s*=\s*(?P<host>'[^']*'|[^\s;]+)", re.I)
_PORT_WORD = re.compile(r"(?:^|(?<=[\s;]))port\s*=\s*'?(?P<port>\d{1,5})'?", re.I)
_PAIR = re.compile(r"^(?P<host>\[[^\]]+\]|[A-Za-z0-9.-]+):(?P<port>\d{1,5})$")
_NAMED = re.compile(r"(sslmode|ssl-mode|ssl_mode)\s*=\s*'?(verify-full|verify_full|verify_identity)|ssl_check_hostname\s*=\s*(true|1)", re.I)


@dataclass(frozen=True)
class Address:
    """Where a value points: ``host`` and ``port``; ``spans`` of the text that say so, each with what stands there for another address."""

    host: str
    port: int
    spans: tuple[tuple[int, int, str], ...]

    @property
    def text(self) -> str:
        """``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def find(value: object, kind: str, key: str) -> Address:
    """The address in a value: a URL, a keyword DSN, ``host:port``, or a port alone (of this machine). ``ChangeRefused`` where there is none, or none that a tap may stand for."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65_536:
        return Address("127.0.0.1", value, ((0, len(str(value)), "{port}"),))
    text = str(value)
    if _NAMED.search(text):
        raise _refused(
            key, "TLS there checks the server's name, and a tap has another", "use sslmode=require for the experiment, or count with the in-process agent"
        )
    found = _url(text, kind, key) or _pair(text) or _words(text, kind)
    if found is None:
        raise _refused(key, "it holds no host and port", "name a key that holds a URL, a DSN, host:port or a port")
    if found.host.startswith(("/", "@")) or not found.host:
        raise _refused(key, "it names a Unix socket", "let the service connect to 127.0.0.1 for the experiment")
    return found


def replaced(value: object, kind: str, key: str, host: str, port: int) -> str | int:
    """The value with another address in place of its own."""
    if isinstance(value, int):
        return port
    text = str(value)
    for start, end, form in sorted(find(value, kind, key).spans, reverse=True):
        name = host.strip("[]") if form.startswith("{host}") and not form.startswith("{host}:") else host  # only host:port needs brackets
        text = text[:start] + form.replace("{host}", name).replace("{port}", str(port)) + text[end:]
    return text


def _url(text: str, kind: str, key: str) -> Address | None:
    found = _URL.match(text)
    if found is None:
        return None
    scheme = found["scheme"].lower()
    if scheme in ("https", "rediss", "mysqls"):
        raise _refused(key, f"{scheme} checks the server's name, and a tap has another", "count with the in-process agent, or on the server")
    if text[found.end() :][:1] == ",":
        raise _refused(key, "it names several hosts", "name one host for the experiment")
    host = unquote(found["host"]).strip("[]")
    port = int(found["port"] or PORTS.get(kind, 80))
    return Address(host, port, ((found.start("host"), found.end("port") if found["port"] else found.end("host"), "{host}:{port}"),))


def _pair(text: str) -> Address | None:
    found = _PAIR.match(text.strip())
    if found is None:
        return None
    return Address(found["host"].strip("[]"), int(found["port"]), ((0, len(text), "{host}:{port}"),))


def _words(text: str, kind: str) -> Address | None:
    host, port = _HOST_WORD.search(text), _PORT_WORD.search(text)
    if host is None:
        return None
    name = host["host"].strip("'")
    spans = [(host.start("host"), host.end("host"), "{host}")]
    if port is not None:
        spans.append((port.start("port"), port.end("port"), "{port}"))
    else:
        spans[0] = (host.start("host"), host.end("host"), "{host} port={port}")
    return Address(name, int(port["port"]) if port else PORTS.get(kind, 0), tuple(spans))


def _refused(key: str, why: str, fix: str) -> ChangeRefused:
    return ChangeRefused(f"no tap can be put at {key}", why=why, fix=fix)
