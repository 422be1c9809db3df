"""Serve stored runs, diagnoses and plans to coding agents over stdio; read-only."""

from __future__ import annotations

from importlib import import_module

from perfloop.cli.output import Output
from perfloop.errors import UsageError
from perfloop.model.exit_codes import FINE
from perfloop.model.requests import McpRequest

REQUEST = McpRequest


def run(request: McpRequest, output: Output) -> int:
    """Serve until stdin closes. The doors do not import one another, so this one is opened by its name."""
    del output
    try:
        server = import_module("perfloop.mcp.server")
    except ModuleNotFoundError as error:
        raise UsageError("perfloop mcp needs the mcp extra", why=f"{error.name} is not installed", fix="pip install 'perfloop[mcp]'") from error
    server.serve(request)
    return FINE
