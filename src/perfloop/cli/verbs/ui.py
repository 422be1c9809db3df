"""Show the stored runs in a browser. Listens on 127.0.0.1 only, behind a random token in the printed address; read-only."""

from __future__ import annotations

from importlib import import_module

from perfloop.cli.output import Output
from perfloop.errors import UsageError
from perfloop.model.exit_codes import FINE
from perfloop.model.requests import UiRequest

REQUEST = UiRequest


def run(request: UiRequest, output: Output) -> int:
    """Serve until Ctrl-C. The doors do not import one another, so this one is opened by its name."""
    try:
        server = import_module("perfloop.web.server")
    except ModuleNotFoundError as error:
        raise UsageError("perfloop ui needs the web extra", why=f"{error.name} is not installed", fix="pip install 'perfloop[web]'") from error
    server.serve(request, output.tell)
    return FINE
