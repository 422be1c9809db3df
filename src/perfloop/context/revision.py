"""The git revision of a folder, read from ``.git`` without running git (which would run that repository's own configuration)."""

from __future__ import annotations

import re
from pathlib import Path

_HASH = re.compile(r"^[0-9a-f]{40}(?:[0-9a-f]{24})?$")
_REFERENCE = re.compile(r"^refs/[A-Za-z0-9._/@+-]{1,240}$")
_PARENTS_MAX = 40
_READ_MAX_CHARS = 4_000_000


def git_revision(folder: str | Path) -> str:
    """The commit that is checked out in the repository around a folder, as its full hash; empty where there is none that can be read."""
    git = _git_folder(Path(folder))
    if git is None:
        return ""
    head = _text(git / "HEAD").strip()
    if not head.startswith("ref: "):
        return head if _HASH.match(head) else ""
    name = head[5:].strip()
    if not _REFERENCE.match(name) or ".." in name:
        return ""
    common = _text(git / "commondir").strip()  # a worktree keeps its references with its main repository
    for place in (git, *((git / common,) if common else ())):
        found = _text(place / name).strip()
        if _HASH.match(found):
            return found
        for line in _text(place / "packed-refs").splitlines():
            value, _, reference = line.partition(" ")
            if reference == name and _HASH.match(value):
                return value
    return ""


def _git_folder(folder: Path) -> Path | None:
    for place in [folder, *folder.parents][:_PARENTS_MAX]:
        git = place / ".git"
        try:
            if git.is_dir():
                return git
            if git.is_file():  # a worktree or a submodule: "gitdir: PATH"
                target = _text(git).strip().removeprefix("gitdir: ")
                return (place / target) if target else None
        except OSError:
            return None
    return None


def _text(path: Path) -> str:
    try:
        with path.open(errors="replace") as file:
            return file.read(_READ_MAX_CHARS)
    except OSError:
        return ""
