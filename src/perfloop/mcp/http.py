"""Streamable HTTP on 127.0.0.1: every request needs the token; other hosts and origins are refused by the SDK's own transport security."""

from __future__ import annotations

import hmac
import os
import secrets
import sys
from typing import Any

import uvicorn
from mcp.server import MCPServer
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

HOST = "127.0.0.1"
TOKEN_VARIABLE = "PERFLOOP_MCP_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_MIN = 16
BODY_MAX_BYTES = 1 << 20


class Token:
    """Answers 401 to a request without ``Authorization: Bearer TOKEN``, before anything of it is read."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            if not hmac.compare_digest(given, self._expected):
                refusal = JSONResponse({"error": "a token is needed: Authorization: Bearer TOKEN"}, 401, {"WWW-Authenticate": "Bearer"})
                return await refusal(scope, receive, send)
        return await self._app(scope, receive, send)


def app(server: MCPServer[Any], token: str) -> ASGIApp:
    """The server as an ASGI application behind the token."""
    return Token(server.streamable_http_app(host=HOST, max_request_body_size=BODY_MAX_BYTES), token)


def serve_http(server: MCPServer[Any], port: int) -> None:
    """Serve until interrupted. The token comes from PERFLOOP_MCP_TOKEN, or is made and told once on stderr."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    if len(token) < TOKEN_MIN:
        token = secrets.token_urlsafe(24)
        sys.stderr.write(f"token: {token}\n")
    config = uvicorn.Config(app(server, token), host=HOST, port=port, log_level="warning", access_log=False)
    running = uvicorn.Server(config)
    sys.stderr.write(f"perfloop mcp listens on http://{HOST}:{port}/mcp\n")
    running.run()
