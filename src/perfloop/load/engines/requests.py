"""The bytes of each request, made once before the load starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from perfloop.errors import UsageError

# a step as JSON has it: name, method, paths, headers, body
_SAFE = "/:?#[]@!$&'()*+,;=-._~%{}|\"<>^`\\"
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
#: May be sent again when an idle connection was closed under them (RFC 9110, 9.2.2); others would be done twice.
IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS"))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where requests go: ``host`` as resolved, ``prefix`` before every path."""

    tls: bool
    host: str
    port: int
    prefix: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Template:
    """One concrete request: its bytes, and what its response reader and its retry must know."""

    payload: bytes
    head: bool
    idempotent: bool


def parse_origin(base_url: str) -> Origin:
    """Host, port and path prefix of ``http://…`` or ``https://…``; ``UsageError`` says what is wrong."""
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{_shown(base_url)} is not a URL", why=str(error), fix="give http://host:port") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"{_shown(base_url)} is not a URL that can be loaded", why="the scheme must be http or https, and there must be a host", fix="give http://host:port"
        )
    if parts.username or parts.password:
        raise UsageError(
            "a URL must not contain credentials", fix="send them as a header: target.headers in the configuration, with a reference (env:NAME, file:PATH)"
        )
    tls = parts.scheme == "https"
    return Origin(tls, parts.hostname, port or (443 if tls else 80), parts.path.rstrip("/"))


def build_templates(origin: Origin, method: str, paths: Sequence[str], headers: Sequence[tuple[str, str]], body: str | bytes) -> tuple[Template, ...]:
    """The bytes of every concrete path of a step; ``UsageError`` names a header or path that cannot be sent.

    Headers given replace the defaults of the same name; a body gets its Content-Length, and is JSON where no type is given.
    """
    content = body if isinstance(body, bytes) else body.encode()
    head = build_head(origin, method, headers, content)
    return tuple(
        Template(f"{method} {quote_path(origin, path)} HTTP/1.1\r\n".encode("latin-1") + head + content, method == "HEAD", method in IDEMPOTENT)
        for path in paths
    )


def build_head(origin: Origin, method: str, headers: Iterable[tuple[str, str]], content: bytes) -> bytes:
    """The header lines and the blank line behind them; ``UsageError`` names what cannot be sent."""
    return fields_of(origin, method, headers, bool(content)) + (
        b"Content-Length: %d\r\n\r\n" % len(content) if content or method in ("POST", "PUT", "PATCH") else b"\r\n"
    )


def fields_of(origin: Origin, method: str, headers: Iterable[tuple[str, str]], has_body: bool) -> bytes:
    """The header lines that do not depend on the body's length."""
    if not method or not set(method) <= _TOKEN:
        raise UsageError(f"{method!r} is not an HTTP method", fix="use GET, HEAD, POST, PUT, PATCH or DELETE")
    fields = {
        "host": ("Host", origin.authority),
        "user-agent": ("User-Agent", "perfloop"),
        "accept": ("Accept", "*/*"),
        "accept-encoding": ("Accept-Encoding", "gzip"),
    }
    if has_body:
        fields["content-type"] = ("Content-Type", "application/json")
    for name, value in headers:
        if not name or not set(name) <= _TOKEN or any(c in value for c in "\r\n\0"):
            raise UsageError(
                f"the header {name!r} cannot be sent",
                why="a name is letters, digits and -, and a value is one line",
                fix="correct the headers in the configuration",
            )
        if name.lower() in ("content-length", "transfer-encoding", "connection"):
            raise UsageError(f"the header {name} cannot be set", why="the load engine sets it itself", fix="remove it from the configuration")
        fields[name.lower()] = (name, value)
    return "".join(f"{name}: {value}\r\n" for name, value in fields.values()).encode("latin-1", "replace")


def quote_path(origin: Origin, path: str) -> str:
    """A path as it is sent, behind the origin's prefix; ``UsageError`` where it is none."""
    if not path.startswith("/"):
        raise UsageError(f"the path {_shown(path)} does not start with /", fix="write paths as /orders/1?page=2")
    return quote((origin.prefix + path).split("#", 1)[0], safe=_SAFE.replace("#", "").replace('"', "").replace("<", "").replace(">", ""))


def _shown(text: str) -> str:
    """A URL as an error may show it: without what could be a credential, and not endless."""
    return repr(text.split("@")[-1].split("?")[0][:120])
