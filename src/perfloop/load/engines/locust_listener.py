"""Runs inside Locust, beside the user's locustfile and with its Python: tells every request, and lets nothing be sent but to the target.

It imports nothing of perfloop, which need not be installed there.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import socket
import time
from typing import Any

import gevent
from locust import events

FLUSH_S = 0.25
NAMES_MAX_CHARS = 200
_out = open(os.environ["PERFLOOP_LOCUST_OUT"], "w", buffering=1)  # noqa: PTH123, SIM115 -- until Locust ends
_allowed = {address for address in os.environ["PERFLOOP_LOCUST_ALLOWED"].split(",") if address}
_requests: list[tuple[str, float, float, int, int, str, str]] = []
_exceptions: list[str] = []
_runner: Any = None


def _error_class(exception: BaseException, status: int) -> str:
    """The class in which perfloop counts what Locust calls a failure."""
    names = " ".join(kind.__name__ for kind in type(exception).__mro__)
    text = f"{names} {exception!r}"
    if "CatchResponseError" in names or "AssertionError" in names:
        return "check"
    if status >= 400:
        return "status_5xx" if status >= 500 else "status_4xx"
    if "ConnectTimeout" in names:
        return "timeout_connect"
    if "imeout" in names or "timed out" in text:
        return "timeout"
    if any(word in text for word in ("refused", "resolve", "Name or service", "getaddrinfo", "unreachable", "perfloop lets")):
        return "connect"
    if any(word in text for word in ("reset", "Disconnected", "aborted", "Broken pipe", "closed")):
        return "reset"
    return "protocol"


def _on_request(
    request_type: str, name: str, response_time: float, response_length: int, exception: BaseException | None = None, response: Any = None, **_: Any
) -> None:
    status = int(getattr(response, "status_code", 0) or 0)
    error = "" if exception is None else _error_class(exception, status)
    label = f"{request_type} {name}"[:NAMES_MAX_CHARS]
    detail = "" if exception is None else f"{type(exception).__name__}: {exception}"[:300]
    _requests.append((label, time.time(), (response_time or 0.0) / 1000, int(response_length or 0), status, error, detail))


def _on_user_error(exception: BaseException, **_: Any) -> None:
    if len(_exceptions) < 10:
        _exceptions.append(f"{type(exception).__name__}: {exception}")


def _on_start(environment: Any, **_: Any) -> None:
    global _runner
    _runner = environment.runner
    _tell(started=time.time())
    gevent.spawn(_flushing)


def _on_stop(**_: Any) -> None:
    _flush()
    _tell(ended=time.time())


def _on_quit(**_: Any) -> None:
    _flush()


def _flushing() -> None:
    while True:
        gevent.sleep(FLUSH_S)
        _flush()


def _flush() -> None:
    taken, _requests[:] = list(_requests), []
    said, _exceptions[:] = list(_exceptions), []
    _tell(requests=taken, exceptions=said, users=_runner.user_count if _runner is not None else 0)


def _tell(**what: Any) -> None:
    _out.write(json.dumps(what, separators=(",", ":")) + "\n")


def _guarded(plain: Any) -> Any:
    """A connect that goes to the target or this machine only, whatever address a task names."""

    def connect(self: Any, address: Any, *rest: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0]).partition("%")[0]
            try:
                known = host in _allowed or ipaddress.ip_address(host).is_loopback
            except ValueError:
                known = False
            if not known:
                raise OSError(errno.EACCES, f"perfloop lets a test reach its target only, not {host}")
        return plain(self, address, *rest)

    return connect


events.request.add_listener(_on_request)
events.user_error.add_listener(_on_user_error)
events.test_start.add_listener(_on_start)
events.test_stop.add_listener(_on_stop)
events.quit.add_listener(_on_quit)
socket.socket.connect = _guarded(socket.socket.connect)  # type: ignore[method-assign]
socket.socket.connect_ex = _guarded(socket.socket.connect_ex)  # type: ignore[method-assign]
