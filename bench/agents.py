"""The agent's story over MCP, on the shop: a scripted client over real stdio finds, fixes, proves and undoes.

    python -m bench.agents

context → measure → diagnose → plan → apply → diagnose (what is left) → rollback. Counted: calls, and bytes of the tools' output.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import mcp
from mcp.client.stdio import StdioServerParameters, stdio_client

from bench.table import Row, finish
from perfloop_shop.stack import Stack

CALLS_MAX, BYTES_MAX, LIST_MAX_BYTES = 12, 20_000, 14_000
TEMPLATES = Path(__file__).parent.parent / ".demo" / "template"


class Teller:
    """A client that counts what it asks and what it is told."""

    def __init__(self, client: mcp.Client) -> None:
        self.client, self.calls, self.told_bytes = client, 0, 0

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """One call; a tool's error ends the story."""
        answer = await self.client.call_tool(tool, arguments)
        self.calls += 1
        text = "".join(getattr(part, "text", "") for part in answer.content)
        self.told_bytes += len(text.encode())
        if answer.is_error:
            raise SystemExit(f"{tool}: {text}")
        print(f"{self.calls:>2} {tool} {json.dumps(arguments)}: {len(text.encode())} bytes: {text[:200]!r}", file=sys.stderr, flush=True)
        return dict(answer.structured_content or json.loads(text))

    async def finished(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """A long call, asked again until it is over."""
        answer = await self.call(tool, wait_s=45, **arguments)
        while answer["state"] == "running":
            answer = await self.call(tool, job=answer["job"], wait_s=45)
        return answer


async def story(config: Path, folder: Path) -> tuple[Teller, dict[str, Any], dict[str, Any], int]:
    """Play it; returns the counts, the answer of the application, that of the rollback, and the size of the tools' list."""
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "perfloop", "mcp", "--allow-changes", "--config", str(config)],
        cwd=str(folder),
        env={**os.environ, "PERFLOOP_STATE_DIR": str(folder / "state")},
    )
    async with mcp.Client(stdio_client(server)) as client:
        tools = [tool.model_dump(mode="json", exclude_none=True) for tool in (await client.list_tools()).tools]
        teller = Teller(client)
        await teller.call("perf_context")
        measured = await teller.finished("perf_measure")
        diagnosed = await teller.call("perf_diagnose", run=measured["run_id"])
        first = diagnosed["findings"][0]["rule"]
        plan = await teller.call("perf_plan", run=measured["run_id"], finding=first)
        applied = await teller.finished("perf_apply", plan_id=plan["plan_id"], plan_hash=plan["plan_hash"])
        kept = [change["change"] for change in applied.get("changes", ()) if change["decision"] == "kept"]
        undone = await teller.call("perf_rollback", change=kept[0]) if kept else {}
        return teller, applied, undone, len(json.dumps(tools))


def main() -> int:
    """Play the story once and print the table."""
    with tempfile.TemporaryDirectory() as folder, Stack(["missing-index"], Path(folder) / "shop", TEMPLATES) as shop:
        Path(folder).chmod(0o711)
        teller, applied, undone, listed = asyncio.run(story(shop.config_path, Path(folder)))
    kept = [change for change in applied.get("changes", ()) if change["decision"] == "kept"]
    back = [item["state"] for item in undone.get("items", ())]
    return finish(
        "agents",
        [
            Row("the story over MCP: fixed and proved", len(kept), "", ">= 1", bool(kept), why="; ".join(change.get("proof", "") for change in kept)),
            Row("and undone again", len(back), "", ">= 1", back == ["undone"], why=", ".join(back)),
            Row("calls", teller.calls, "", f"<= {CALLS_MAX}", teller.calls <= CALLS_MAX),
            Row("tool output", teller.told_bytes, "bytes", f"<= {BYTES_MAX}", teller.told_bytes <= BYTES_MAX),
            Row("list of tools", listed, "bytes", f"< {LIST_MAX_BYTES}", listed < LIST_MAX_BYTES),
        ],
    )


if __name__ == "__main__":
    raise SystemExit(main())
