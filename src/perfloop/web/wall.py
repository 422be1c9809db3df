"""What every request must pass before a page sees it: method, host, origin, body, token; and the headers of every answer."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Wall:
    """Lets GET and HEAD from this machine's own address through, with the token as the first part of the path, and without a body.

    The Host check stops a foreign name that was pointed at 127.0.0.1 (DNS rebinding), the Origin check a foreign page that calls us.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Iterable[str], policy: str) -> None:
        self._app, self._token, self._policy = app, token, policy
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on with the token taken off its path."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = f"{self._policy}; frame-ancestors 'none'"
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        status, text = self._refused(scope)
        if status:
            await PlainTextResponse(text, status)(scope, receive, guarded)
        else:
            await self._app({**scope, "path": scope["path"][len(self._token) + 1 :] or "/", "raw_path": b""}, receive, guarded)

    def _refused(self, scope: Scope) -> tuple[int, str]:
        """A status and a reason, or 0."""
        headers = Headers(scope=scope)
        if headers.get("host", "") not in self._hosts:
            return 403, "this address answers to 127.0.0.1 only"
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in self._hosts}:
            return 403, "a foreign page may not read this"
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "read-only: GET and HEAD"
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return 413, "no request here has a body"
        given = scope["path"].split("/", 2)[1] if "/" in scope["path"] else ""
        return (0, "") if secrets.compare_digest(given.encode(), self._token.encode()) else (404, "not found; use the address that perfloop ui printed")
