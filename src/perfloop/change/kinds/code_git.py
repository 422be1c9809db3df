"""``code-git``: a patch, or the difference to a branch, as one commit on the checked-out branch; its undo is another commit.

A tag marks the state before. Nothing is reset, rebased or pushed; a branch moves only where it still points to where it did (``git update-ref`` with the
old value), and files with uncommitted edits are not touched: the change is refused where the patch needs one of them, others stay as they are.
"""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from perfloop.change import cells, programs, service
from perfloop.change.base import ChangeContext, Note, hash_of, new_id
from perfloop.errors import CannotMeasure, ChangeRefused, PerfloopError, UndoFailed
from perfloop.host.secrets import redact
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal

ID = "code-git"
OPERATION = "code_change"
PATCH_MAX_BYTES = 2**20
GIT_MAX_S = 60.0
FILES_MAX = 200
_ABSENT = ""


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``patch`` (a unified diff) or ``branch``, ``repo`` (else ``target.source_root``, else the configuration's folder), and ``restart_command``."""
    wanted = proposal.params
    start = context.base_dir / str(wanted.get("repo") or context.config.target.source_root or ".")
    repo = Path(_git(start, "rev-parse", "--show-toplevel").strip())
    head, branch = _git(repo, "rev-parse", "HEAD").strip(), _git(repo, "rev-parse", "--symbolic-full-name", "HEAD").strip()
    if not branch.startswith("refs/heads/"):
        raise ChangeRefused("no branch is checked out", why="HEAD is detached", fix="git switch BRANCH")
    patch = str(wanted.get("patch") or "") or _git(repo, "diff", "--binary", "HEAD", str(wanted.get("branch", "HEAD")), "--")
    if not patch.strip() or len(patch) > PATCH_MAX_BYTES:
        raise ChangeRefused("there is nothing to apply" if not patch.strip() else "the patch is too large", fix="name a patch, or a branch that differs")
    tree = _tree_with(repo, head, patch)
    paths = [path for path in _git(repo, "diff-tree", "-r", "-z", "--name-only", head, tree).split("\0") if path]
    if len(paths) > FILES_MAX:
        raise ChangeRefused(f"the patch changes {len(paths)} files", why=f"{FILES_MAX} at most", fix="split it")
    if dirty := _git(repo, "status", "--porcelain", "--untracked-files=all", "--", *paths).strip():
        raise ChangeRefused("files of the patch have uncommitted edits", why=dirty[:300], fix="commit or stash them; perfloop never touches them")
    before, after = ({path: _entry(repo, rev, path) for path in paths} for rev in (head, tree))
    makes_count = bool(wanted.get("restart_command") or context.config.target.restart_command)
    params = service.params_of(context.config, str(context.base_dir), makes_count, wanted)
    params |= {"repo": str(repo), "head": head, "branch": branch, "tree": tree, "paths": paths}
    title = proposal.title or f"code: {', '.join(paths[:3])}{' …' if len(paths) > 3 else ''}"
    change_id = new_id()
    where = f"git -C {shlex.quote(str(repo))}"
    params["command"] = f"commit to {branch.removeprefix('refs/heads/')}: {', '.join(paths)}"[:1000]
    params["rollback_command"] = f"{where} revert --no-edit $({where} log -1 --format=%H --grep='Perfloop-Change: {change_id}')"
    return Change(
        id=change_id,
        kind=ID,
        title=title,
        params=params,
        before=before,
        after=after,
        live_hash=hash_of([head, before]),
        diff=redact(patch),
        risk="other code runs: its tests are yours to run" + ("; the service restarts" if makes_count else ""),
        reach="the service's code, this working copy",
        safety=Safety.ASK,
        undo_commands=(params["rollback_command"], *service.by_hand(params)),
        apply_commands=(f"{where} apply --index PATCH && {where} commit -m {shlex.quote(title)}", *service.by_hand(params)),
        resources=tuple(f"file:{repo / path}" for path in paths),
        restarts=makes_count,
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """Mode and content of each file of the patch in the working copy, by git's own hash; empty for no file."""
    return _live(change)


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """A tag, a commit, the files, and then the branch, each only where nothing has moved since the plan."""
    params, repo = change.params, Path(change.params["repo"])
    head = _git(repo, "rev-parse", params["branch"]).strip()
    if _live(change) != change.before or any(_entry(repo, head, path) != change.before[path] for path in params["paths"]):
        raise ChangeRefused(f"not applied: {change.title}", why="its files moved since the plan was made", fix="make a new plan: perfloop plan")
    tree = params["tree"] if head == params["head"] else _tree_of(repo, head, change.after)
    _git(repo, "update-ref", f"refs/tags/perfloop/{change.id}", head, change_id=change.id)
    commit = _commit(repo, tree, head, f"{change.title}\n\nPerfloop-Change: {change.id}\n")
    note({"type": "git", "commit": commit, "before": head})
    _put(change, change.after, tree)
    _git(repo, "update-ref", params["branch"], commit, head, change_id=change.id)
    try:
        service.activate(change.id, params, context)
    except CannotMeasure as error:
        raise ChangeRefused(f"{change.title}: the service did not come back", why=f"{error.what}: {error.why}", fix=error.fix) from error


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """Waits for a git, or a restart, that a killed perfloop left running."""
    deadline = time.monotonic() + GIT_MAX_S
    while _running(change.id) and time.monotonic() < deadline:
        time.sleep(0.02)
    if backend:
        service.end_running(change.id, change.params)


def verify(change: Change, context: ChangeContext) -> bool:
    """True where working copy and branch have the new content, and the service is healthy."""
    return _live(change) == change.after and _committed(change) == change.after and not service.unhealthy(change.params, context)


def undo(change: Change, context: ChangeContext) -> None:
    """A commit with the old content of these files, then the files; where one is neither ours nor the old one, all is left alone."""
    params, repo = change.params, Path(change.params["repo"])
    try:
        live, committed = _live(change), _committed(change)
        foreign = [path for path in params["paths"] for now in (live, committed) if now[path] not in (change.before[path], change.after[path])]
        if foreign:
            raise cells.stuck(change, f"{', '.join(dict.fromkeys(foreign))}: neither ours nor the old content; somebody else changed it, and it was left alone")
        if live == change.before and committed == change.before and _git(repo, "diff", "--cached", "--name-only", "--", *params["paths"]) == "":
            return
        head = _git(repo, "rev-parse", params["branch"]).strip()
        tree = _tree_of(repo, head, change.before)
        if committed != change.before:
            commit = _commit(repo, tree, head, f"Undo: {change.title}\n\nPerfloop-Undo: {change.id}\n")
            _git(repo, "update-ref", params["branch"], commit, head, change_id=change.id)
        _put(change, change.before, tree)
        service.activate(change.id, params, context)
    except UndoFailed:
        raise
    except (PerfloopError, OSError) as error:
        raise cells.stuck(change, f"{getattr(error, 'what', error)}: {getattr(error, 'why', '')}") from error


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where working copy and branch have the old content, and the service is healthy."""
    return _live(change) == change.before and _committed(change) == change.before and not service.unhealthy(change.params, context)


def _put(change: Change, entries: dict[str, str], tree: str) -> None:
    """These files and their index entries from a tree; nothing else of the working copy."""
    repo = Path(change.params["repo"])
    there = [path for path, entry in entries.items() if entry]
    gone = [path for path, entry in entries.items() if not entry]
    if there:
        _git(repo, "checkout", tree, "--", *there, change_id=change.id)
    if gone:
        _git(repo, "rm", "-q", "--cached", "--ignore-unmatch", "--", *gone, change_id=change.id)
        for path in gone:
            (repo / path).unlink(missing_ok=True)


def _live(change: Change) -> dict[str, str]:
    repo, found = Path(change.params["repo"]), {}
    for path in change.params["paths"]:
        file = repo / path
        if not os.path.lexists(file):
            found[path] = _ABSENT
        elif file.is_symlink():
            found[path] = f"120000 {_git(repo, 'hash-object', '--stdin', text=str(file.readlink())).strip()}"
        else:
            mode = "100755" if file.stat().st_mode & 0o100 else "100644"
            found[path] = f"{mode} {_git(repo, 'hash-object', '--', path).strip()}"
    return found


def _committed(change: Change) -> dict[str, str]:
    repo = Path(change.params["repo"])
    return {path: _entry(repo, change.params["branch"], path) for path in change.params["paths"]}


def _entry(repo: Path, rev: str, path: str) -> str:
    """``mode hash`` of a path in a commit or tree; empty where it is not there."""
    mode, _, rest = _git(repo, "ls-tree", "-z", rev, "--", path).partition(" ")
    return f"{mode} {rest.split()[1]}" if rest else _ABSENT


def _tree_with(repo: Path, head: str, patch: str) -> str:
    """The tree of ``head`` with a patch, made beside the index; ``ChangeRefused`` with git's words where it does not fit."""
    with tempfile.TemporaryDirectory() as folder:
        index, file = {"GIT_INDEX_FILE": str(Path(folder) / "index")}, Path(folder) / "patch"
        file.write_text(patch if patch.endswith("\n") else patch + "\n")
        _git(repo, "read-tree", head, env=index)
        _git(repo, "apply", "--cached", "--whitespace=nowarn", str(file), env=index)
        return _git(repo, "write-tree", env=index).strip()


def _tree_of(repo: Path, head: str, entries: dict[str, str]) -> str:
    """The tree of ``head`` with these entries instead of its own."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(repo, "read-tree", head, env=index)
        for path, entry in entries.items():
            options = ["--add", "--cacheinfo", ",".join((*entry.split(), path))] if entry else ["--force-remove", "--", path]
            _git(repo, "update-index", *options, env=index)
        return _git(repo, "write-tree", env=index).strip()


def _commit(repo: Path, tree: str, parent: str, message: str) -> str:
    who = {
        "GIT_COMMITTER_NAME": "perfloop",
        "GIT_COMMITTER_EMAIL": "perfloop@localhost",
        "GIT_AUTHOR_NAME": "perfloop",
        "GIT_AUTHOR_EMAIL": "perfloop@localhost",
    }
    return _git(repo, "commit-tree", tree, "-p", parent, "-m", message, env=who).strip()


def _git(repo: Path, *arguments: str, env: dict[str, str] | None = None, change_id: str = "", text: str = "") -> str:
    """One git command; with ``change_id``, marked so that it can be waited for."""
    mark = {service.MARK: change_id} if change_id else {}
    if text:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            arguments = ("hash-object", "--no-filters", "--", file.name)
            return programs.run(["git", "-C", str(repo), *arguments], timeout_s=GIT_MAX_S)
    return programs.run(["git", "-C", str(repo), *arguments], timeout_s=GIT_MAX_S, env={**(env or {}), **mark, "GIT_OPTIONAL_LOCKS": "0"})


def _running(change_id: str) -> bool:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.name() == "git" and process.environ().get(service.MARK) == change_id:
                return True
    return False
