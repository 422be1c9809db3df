"""Serve perfloop to coding agents as MCP tools, over stdio or over HTTP on 127.0.0.1.

perfloop mcp            tools that measure and read; none that changes anything
perfloop mcp --allow-changes
"""

from __future__ import annotations

from importlib import import_module

from perfloop.cli.output import Output
from perfloop.errors import UsageError
from perfloop.model.exit_codes import FINE
from perfloop.model.requests import McpRequest

REQUEST = McpRequest


def run(request: McpRequest, output: Output) -> int:
    """Serve until stdin closes, or until interrupted. The doors do not import one another, so this one is opened by its name."""
    del output
    try:
        server = import_module("perfloop.mcp.server")
    except ModuleNotFoundError as error:
        raise UsageError("perfloop mcp needs the mcp extra", why=f"{error.name} is not installed", fix="pip install 'perfloop[mcp]'") from error
    server.serve(request)
    return FINE
