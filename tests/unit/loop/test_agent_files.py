"""Setting a coding agent up in a project, and taking it out again without a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfloop.errors import UsageError
from perfloop.loop.agents import planned, write

CLIENTS = ("claude", "codex", "cursor", "generic")


def everything(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("client", CLIENTS)
def test_what_was_installed_is_removed_without_a_trace(tmp_path: Path, client: str) -> None:
    made = planned(client, tmp_path)
    assert everything(tmp_path) == {}  # a plan touches nothing
    assert all(one.diff for one in made.files)
    write(made, tmp_path)
    assert any("never state a figure that it did not measure" in text for text in everything(tmp_path).values())
    assert planned(client, tmp_path).files == ()  # a second time there is nothing to do
    write(planned(client, tmp_path, remove=True), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("client", CLIENTS)
def test_what_others_wrote_stays(tmp_path: Path, client: str) -> None:
    (tmp_path / "AGENTS.md").write_text("# Ours\n\nUse tabs.\n")
    other = {"mcpServers": {"other": {"command": "other"}}, "key": 1}
    for name in (".mcp.json", ".cursor/mcp.json", "mcp.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(other, indent=2) + "\n")
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex/config.toml").write_text('# mine\nmodel = "m"  # of ours\n')
    before = everything(tmp_path)
    write(planned(client, tmp_path), tmp_path)
    assert everything(tmp_path) != before
    write(planned(client, tmp_path, remove=True), tmp_path)
    after = everything(tmp_path)
    assert {name: text.rstrip() for name, text in after.items()} == {name: text.rstrip() for name, text in before.items()}


def test_a_file_that_was_edited_since_is_left_and_named(tmp_path: Path) -> None:
    write(planned("claude", tmp_path), tmp_path)
    mine = tmp_path / ".claude/agents/performance-engineer.md"
    mine.write_text(mine.read_text() + "\nAlso: be brief.\n")
    result = write(planned("claude", tmp_path, remove=True), tmp_path)
    assert result.left == (".claude/agents/performance-engineer.md",)
    assert mine.read_text().endswith("be brief.\n")
    assert not (tmp_path / ".mcp.json").exists()


def test_what_cannot_be_understood_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / ".mcp.json").write_text("{ not json")
    with pytest.raises(UsageError, match=r"\.mcp\.json is no JSON"):
        planned("claude", tmp_path)
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex/config.toml").write_text("= no toml")
    with pytest.raises(UsageError, match="is no TOML"):
        planned("codex", tmp_path)
    (tmp_path / "AGENTS.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is no text"):
        planned("generic", tmp_path)
    with pytest.raises(UsageError, match="no client 'emacs'"):
        planned("emacs", tmp_path)
    assert not (tmp_path / ".claude").exists()
