"""The server: read-only tools over stdio; nothing listens on the network."""

from __future__ import annotations

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

from perfloop import __version__
from perfloop.mcp.tools import TOOLS, function
from perfloop.model.requests import McpRequest

INSTRUCTIONS = (
    "perfloop measures services, finds causes, and proves changes. These tools read what it has stored. "
    "Numbers come with intervals; what is not here was not measured. New measurements and changes are started by a person: perfloop check, perfloop improve, perfloop apply."
)


def server(request: McpRequest) -> MCPServer:
    """A server with all tools, for stdio or for a client in the same process."""
    made = MCPServer("perfloop", version=__version__, instructions=INSTRUCTIONS)
    for tool in TOOLS:
        hints = ToolAnnotations(read_only_hint=tool.read_only, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
        made.add_tool(function(tool, request.config), name=tool.name, description=tool.text, annotations=hints)
    return made


def serve(request: McpRequest) -> None:
    """Answer on stdin and stdout until stdin closes."""
    server(request).run("stdio")
