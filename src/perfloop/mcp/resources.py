"""What an agent may read by address: runs, reports and the pages of rules."""

from __future__ import annotations

from typing import Any

from mcp.server import MCPServer

from perfloop import api
from perfloop.model.requests import ExplainRequest, ReportRequest


def add(server: MCPServer[Any], config: str) -> None:
    """Register the templates ``perf://runs/{run_id}``, ``perf://reports/{run_id}`` and ``perf://rules/{rule}``."""

    @server.resource("perf://runs/{run_id}", name="run", description="A stored run, whole, as JSON.", mime_type="application/json")
    def run(run_id: str) -> str:
        return api.report(ReportRequest(config=config, run=run_id, format="json"))

    @server.resource("perf://reports/{run_id}", name="report", description="The report of a stored run in Markdown.", mime_type="text/markdown")
    def report(run_id: str) -> str:
        return api.report(ReportRequest(config=config, run=run_id, format="markdown"))

    @server.resource(
        "perf://rules/{rule}", name="rule", description="The page of a rule: what it finds, how it decides, what would disprove it.", mime_type="text/markdown"
    )
    def page(rule: str) -> str:
        return api.explain(ExplainRequest(id=rule))
