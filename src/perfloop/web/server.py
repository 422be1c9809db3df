"""Listens on 127.0.0.1 and tells the address with its token."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable

import uvicorn

from perfloop.errors import CannotMeasure
from perfloop.model.requests import UiRequest
from perfloop.web.app import application

CONNECTIONS_MAX = 64
HEAD_MAX_BYTES = 16_384
IDLE_S = 5


def serve(request: UiRequest, tell: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; ``CannotMeasure`` where the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", request.port))
        listener.listen(CONNECTIONS_MAX)  # from here on a browser waits instead of being refused
    except OSError as error:
        listener.close()
        raise CannotMeasure(
            f"cannot listen on 127.0.0.1:{request.port}", why=error.strerror or str(error), fix="perfloop ui --port 0 takes a free port"
        ) from error
    port, token = listener.getsockname()[1], secrets.token_urlsafe(24)
    app = application(request, token, (f"127.0.0.1:{port}", f"localhost:{port}"))
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, limit_concurrency=CONNECTIONS_MAX, timeout_keep_alive=IDLE_S, h11_max_incomplete_event_size=HEAD_MAX_BYTES, http="h11", ws="none", lifespan="off"
    )  # fmt: skip
    tell(f"http://127.0.0.1:{port}/{token}/  (this machine only; Ctrl-C ends it)")
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # the way it is meant to end
    finally:
        listener.close()
