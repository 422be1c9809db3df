"""One HTTP request with one deadline over all of it: resolving, connecting, TLS, redirects, and a body that only drips."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from perfloop import __version__
from perfloop.errors import CannotMeasure, UsageError
from perfloop.host.clocks import Deadline
from perfloop.host.secrets import redact

Headers = tuple[tuple[str, str], ...]
_REDIRECTS = (301, 302, 303, 307, 308)
_CREDENTIALS = ("authorization", "cookie", "proxy-authorization", "x-api-key")
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Response:
    """An answer: any status, headers as sent, the whole body, the address it came from after redirects, and the seconds it all took."""

    status: int
    headers: Headers
    body: bytes
    url: str
    elapsed_s: float

    def header(self, name: str) -> str:
        """The first header of that name, whatever its case; empty where there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


class _Reader(io.RawIOBase):
    """Bytes of a socket, never waiting beyond the deadline."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        _arm(self._connection, self._deadline)
        return self._connection.recv_into(buffer)


class _Channel:
    """A socket in the shape http.client uses. Closing it does nothing: http.client does so before the body is read; who connected closes."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection, self._deadline = connection, deadline

    def sendall(self, data: bytes) -> None:
        _arm(self._connection, self._deadline)
        self._connection.sendall(data)

    def makefile(self, *_args: object) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._connection, self._deadline), _CHUNK_BYTES)

    def close(self) -> None:
        pass


def _arm(connection: socket.socket, deadline: Deadline) -> None:
    remaining = deadline.remaining_s
    if remaining <= 0:
        raise TimeoutError
    connection.settimeout(remaining)


def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    timeout_s: float = 5.0,
    max_bytes: int = 4_000_000,
    redirects_max: int = 5,
    ca_file: str = "",
) -> Response:
    """Send one request and read the whole answer; any status is an answer.

    ``timeout_s`` is for everything together. Raises UsageError for what is no http(s) address, CannotMeasure (what, why, fix) for a refused or
    unknown host, a timeout, an answer that is no HTTP, endless redirects, a body over ``max_bytes`` and TLS errors. Credentials are not sent on to another host.
    """
    started, deadline = time.monotonic(), Deadline.after(timeout_s)
    sent = tuple(headers)
    current, seen = url, set()
    for _ in range(redirects_max + 1):
        parts = split_url(current)
        seen.add((method, current))
        try:
            status, got, data = _exchange(parts, method, sent, body, deadline, max_bytes, ca_file)
        except TimeoutError:
            raise CannotMeasure(
                f"{redact(current)} did not answer within {timeout_s:g} s",
                "the connection, or the whole answer, took longer",
                "check that the service is healthy, or allow it more time (measure.timeout_s)",
            ) from None
        location = next((value for key, value in got if key.lower() == "location"), "")
        if status not in _REDIRECTS or not location or redirects_max == 0:
            return Response(status, got, data, current, time.monotonic() - started)
        current = urljoin(current, location)
        if status == 303 or (status in (301, 302) and method == "POST"):
            method, body = "GET", b""
        if split_url(current).netloc != parts.netloc:
            sent = tuple((key, value) for key, value in sent if key.lower() not in _CREDENTIALS)
        if (method, current) in seen:
            raise CannotMeasure(f"{redact(url)} redirects for ever", f"{redact(current)} came round again", "give the address that answers itself")
    raise CannotMeasure(
        f"{redact(url)} redirects for ever", f"more than {redirects_max} redirects, the last to {redact(current)}", "give the address that answers itself"
    )


def split_url(url: str) -> SplitResult:
    """The parts of an http(s) address; UsageError where it is none."""
    fix = "write it as http://host:port/path"
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna" if not (parts.hostname or "").isascii() else "ascii")
    except (ValueError, UnicodeError) as error:
        raise UsageError(f"{redact(url)[:200]!r} is not an address", str(error)[:200], fix) from None
    if parts.scheme not in ("http", "https") or not host or port == 0 or any(ord(sign) <= 32 or ord(sign) == 127 for sign in url):
        why = "" if parts.scheme in ("http", "https") else f"the scheme is {parts.scheme!r}" if parts.scheme else "it has no scheme"
        raise UsageError(f"{redact(url)[:200]!r} is not an http address", why or "it has no valid host and path", fix)
    return parts


def _exchange(parts: SplitResult, method: str, headers: Headers, body: bytes, deadline: Deadline, max_bytes: int, ca_file: str) -> tuple[int, Headers, bytes]:
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    shown = redact(parts.geturl())
    connection: socket.socket = _connect(host, port, deadline)
    try:
        if parts.scheme == "https":
            connection = _secure(connection, host, port, deadline, ca_file)
        http_connection = http.client.HTTPConnection(host, port)
        http_connection.sock = _Channel(connection, deadline)
        names = {key.lower() for key, _ in headers}
        http_connection.putrequest(
            method, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), skip_accept_encoding=True, skip_host="host" in names
        )
        for key, value in (("User-Agent", f"perfloop/{__version__}"), ("Accept", "*/*"), ("Connection", "close"), ("Accept-Encoding", "identity")):
            if key.lower() not in names:
                http_connection.putheader(key, value)
        for key, value in headers:
            http_connection.putheader(key, value)
        if body or method in ("POST", "PUT", "PATCH"):
            http_connection.putheader("Content-Length", str(len(body)))
        http_connection.endheaders(body or None)
        answer = http_connection.getresponse()
        data = answer.read(max_bytes + 1)
        if len(data) <= max_bytes and answer.length:
            raise http.client.IncompleteRead(data, answer.length)
    except http.client.InvalidURL:
        raise UsageError(f"{shown!r} is not an address", "it holds characters that no address may hold", "write spaces and signs as %20 and so on") from None
    except http.client.HTTPException as error:
        detail = (
            "it closed the connection without an answer"
            if isinstance(error, http.client.RemoteDisconnected)
            else "the answer broke off"
            if isinstance(error, http.client.IncompleteRead)
            else "the answer is not HTTP/1.1"
        )
        raise CannotMeasure(f"{shown} does not answer in HTTP", detail, "check the port, and whether it wants https://") from None
    except TimeoutError:
        raise
    except ValueError as error:
        raise UsageError(f"a request to {shown} cannot be written", redact(str(error))[:200], "check method and headers") from None
    except OSError as error:
        raise CannotMeasure(f"the connection to {shown} broke off", error.strerror or type(error).__name__, "look into the service's log") from None
    finally:
        connection.close()
    if len(data) > max_bytes:
        raise CannotMeasure(f"the answer of {shown} is too large", f"more than {max_bytes} bytes", "give a path with a smaller answer")
    return answer.status, tuple(answer.getheaders()), data


def _connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    last: OSError | None = None
    for family, kind, protocol, _, address in _resolve(host, port, deadline):
        if deadline.expired:
            raise TimeoutError
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(max(deadline.remaining_s, 0.001))
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except TimeoutError:
            connection.close()
            raise
        except OSError as error:
            connection.close()
            last = error
        else:
            return connection
    if isinstance(last, ConnectionRefusedError):
        raise CannotMeasure(f"nothing listens on {host}:{port}", "the connection was refused", "start the service, or check host and port")
    raise CannotMeasure(f"cannot connect to {host}:{port}", (last.strerror if last else "") or "no address answered", "check host, port and network")


def _resolve(host: str, port: int, deadline: Deadline) -> list[Any]:
    """Entries of getaddrinfo for a host. In a thread, because the system's resolver knows no deadline."""
    found: list[Any] = []
    failed: list[Exception] = []

    def look() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            failed.append(error)

    thread = threading.Thread(target=look, daemon=True, name="resolve")
    thread.start()
    thread.join(max(deadline.remaining_s, 0.0))
    if failed:
        raise CannotMeasure(
            f"the host {host} is not known", getattr(failed[0], "strerror", None) or "the name does not resolve", "check its spelling, or use an IP address"
        )
    if thread.is_alive():
        raise TimeoutError
    return found


def _secure(connection: socket.socket, host: str, port: int, deadline: Deadline, ca_file: str) -> ssl.SSLSocket:
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError):
        raise UsageError(f"the CA file {ca_file} cannot be used", "it is missing or holds no PEM certificate", "check target.ca_file") from None
    secure = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
    try:
        secure.settimeout(max(deadline.remaining_s, 0.001))
        secure.do_handshake()
    except ssl.SSLCertVerificationError as error:
        secure.close()
        raise CannotMeasure(
            f"the certificate of {host}:{port} is not trusted", error.verify_message or "verification failed", "name the CA that signed it: target.ca_file"
        ) from None
    except ssl.SSLError as error:
        raise CannotMeasure(
            f"no TLS with {host}:{port}", (error.reason or "handshake failed").lower().replace("_", " "), "check whether the service wants http://"
        ) from None
    return secure
