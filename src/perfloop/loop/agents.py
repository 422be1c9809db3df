"""Writes our agent file, skill and MCP configuration into a project for coding agents, shown as a diff first, and takes them out again."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError

from perfloop.errors import UsageError
from perfloop.host.files import write_atomic
from perfloop.model.replies import AgentFile, AgentFilesResult

FILE_MAX_BYTES = 1 << 20
BEGIN, END = "<!-- perfloop: begin -->", "<!-- perfloop: end -->"
SERVER: dict[str, Any] = {"command": "perfloop", "args": ["mcp"]}
DESCRIPTION = "Measures a running service, finds what makes it slow, and proves each change. Use it for anything about latency, throughput, load, capacity or slow queries."

#: text of a file now (None: it is not there) → the text it should have (None: it should not be there)
Edit = Callable[[str | None], str | None]


@dataclass(frozen=True)
class Place:
    """One file of one client: how our part gets in, and how it gets out."""

    path: str
    put: Edit
    take: Edit


def guide() -> str:
    """The guide that every client gets."""
    return files("perfloop.loop.agent_files").joinpath("guide.md").read_text()


def _whole(path: str, text: str) -> Place:
    """A file that is ours alone. One that was edited since is left where it is."""

    def take(now: str | None) -> str | None:
        return None if now == text else now

    return Place(path, lambda _: text, take)


def _block(path: str) -> Place:
    """Our part of a file that others write too, between two marks."""
    ours = f"{BEGIN}\n# Performance\n\n{guide()}{END}\n"

    def take(now: str | None) -> str | None:
        if now is None or BEGIN not in now or END not in now:
            return now
        head, rest = now.split(BEGIN, 1)
        left = head + rest.split(END, 1)[1].lstrip("\n")
        return left if left.strip() else None

    def put(now: str | None) -> str | None:
        without = take(now)
        return ours if without is None else without.rstrip("\n") + "\n\n" + ours

    return Place(path, put, take)


def _json_entry(path: str) -> Place:
    """The server's entry in a JSON file of MCP servers."""

    def put(now: str | None) -> str | None:
        document = _json(path, now)
        servers = document.setdefault("mcpServers", {})
        if not isinstance(servers, dict):
            raise UsageError(f"{path}: mcpServers is no object", fix="correct the file first")
        servers["perfloop"] = SERVER
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def take(now: str | None) -> str | None:
        if now is None:
            return None
        document = _json(path, now)
        servers = document.get("mcpServers", {})
        if not isinstance(servers, dict) or servers.get("perfloop") != SERVER:
            return now
        del servers["perfloop"]
        return None if document == {"mcpServers": {}} else json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    return Place(path, put, take)


def _json(path: str, now: str | None) -> dict[str, Any]:
    try:
        document = json.loads(now) if now else {}
    except ValueError as error:
        raise UsageError(f"{path} is no JSON", why=str(error), fix="correct the file first; nothing was written") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path} holds no JSON object", fix="correct the file first; nothing was written")
    return document


def _toml_entry(path: str) -> Place:
    """The server's table in a TOML file; comments and order stay."""

    def parsed(now: str) -> tomlkit.TOMLDocument:
        try:
            return tomlkit.parse(now)
        except ParseError as error:
            raise UsageError(f"{path} is no TOML", why=str(error), fix="correct the file first; nothing was written") from None

    def put(now: str | None) -> str | None:
        document = parsed(now or "")
        servers = document.setdefault("mcp_servers", tomlkit.table(is_super_table=True))
        servers["perfloop"] = SERVER
        return tomlkit.dumps(document)

    def take(now: str | None) -> str | None:
        if now is None:
            return None
        document = parsed(now)
        servers = document.get("mcp_servers", {})
        if dict(servers.get("perfloop", {})) != SERVER:
            return now
        del servers["perfloop"]
        if not servers:
            del document["mcp_servers"]
        return tomlkit.dumps(document) if document else None

    return Place(path, put, take)


def places(client: str) -> tuple[Place, ...]:
    """The files of one client; ``UsageError`` lists the clients."""
    front = f"---\nname: performance-engineer\ndescription: {DESCRIPTION}\n---\n\n"
    known: dict[str, tuple[Place, ...]] = {
        "claude": (
            _whole(".claude/agents/performance-engineer.md", front + guide()),
            _whole(".claude/skills/perfloop/SKILL.md", front.replace("name: performance-engineer", "name: perfloop") + guide()),
            _json_entry(".mcp.json"),
        ),
        "codex": (_block("AGENTS.md"), _toml_entry(".codex/config.toml")),
        "cursor": (
            _whole(".cursor/rules/perfloop.mdc", f"---\ndescription: {DESCRIPTION}\nalwaysApply: false\n---\n\n" + guide()),
            _json_entry(".cursor/mcp.json"),
        ),
        "generic": (_block("AGENTS.md"), _json_entry("mcp.json")),
    }
    if client not in known:
        raise UsageError(f"there is no client {client!r}", why=f"known: {', '.join(known)}", fix="perfloop agent install generic")
    return known[client]


def planned(client: str, folder: Path, *, remove: bool = False) -> AgentFilesResult:
    """What would be written or removed below ``folder``; nothing is touched."""
    changed = []
    for place in places(client):
        path = folder / place.path
        now = _text(path)
        then = place.take(now) if remove else place.put(now)
        if then != now:
            changed.append(AgentFile(path=place.path, text=then, diff=_diff(place.path, now, then)))
    left = tuple(place.path for place in places(client) if remove and (folder / place.path).exists() and place.path not in {one.path for one in changed})
    return AgentFilesResult(client=client, files=tuple(changed), left=left)


def write(result: AgentFilesResult, folder: Path) -> AgentFilesResult:
    """Do what was planned; folders that a removal leaves empty go too."""
    for one in result.files:
        path = folder / one.path
        if one.text is None:
            path.unlink(missing_ok=True)
            for parent in path.relative_to(folder).parents:
                if parent != Path() and not any((folder / parent).iterdir()):
                    (folder / parent).rmdir()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, one.text.encode(), mode=None if path.exists() else 0o644)
    done: AgentFilesResult = result.with_(written=True)
    return done


def _text(path: Path) -> str | None:
    if not path.exists():
        return None
    if not path.is_file() or path.stat().st_size > FILE_MAX_BYTES:
        raise UsageError(f"{path} is no file of at most {FILE_MAX_BYTES >> 20} MiB", fix="move it away; nothing was written")
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text", why=str(error), fix="move it away; nothing was written") from None


def _diff(path: str, now: str | None, then: str | None) -> str:
    names = "/dev/null" if now is None else f"a/{path}", "/dev/null" if then is None else f"b/{path}"
    return "".join(difflib.unified_diff((now or "").splitlines(keepends=True), (then or "").splitlines(keepends=True), *names))
