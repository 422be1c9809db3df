"""Another state of a git repository in a folder of its own, and a service started from it. Neither touches the working tree."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from perfloop.errors import CannotMeasure, UsageError
from perfloop.host.command import run_command

GRACE_S = 5.0
#: repository hooks and helpers of whoever wrote that state are not run by looking at it
_GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")


def git(folder: Path, *words: str, timeout_s: float = 60.0) -> str:
    """The output of a git command; ``UsageError`` with git's own words where it fails."""
    done = run_command([*_GIT, "-C", str(folder), *words], timeout_s=timeout_s)
    if not done.ok:
        raise UsageError(
            f"git {words[0]} failed", why=(done.stderr or done.stdout).strip()[-500:], fix="check the reference and that the folder is a git repository"
        )
    return done.stdout.strip()


def commit_of(folder: Path, reference: str) -> str:
    """The full hash of a reference; ``UsageError`` where there is none."""
    if reference.startswith("-"):
        raise UsageError(f"{reference!r} is no git reference", fix="name a branch, a tag or a commit")
    return git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{reference}^{{commit}}")


@contextmanager
def worktree(folder: Path, commit: str, patch: Path | None = None) -> Iterator[Path]:
    """A checkout of a commit in a temporary folder, with a patch applied where given; removed at the end."""
    place = Path(tempfile.mkdtemp(prefix="perfloop-tree-"))
    tree = place / "tree"
    try:
        git(folder, "worktree", "add", "--detach", str(tree), commit)
        if patch is not None:
            git(tree, "apply", "--index", str(patch.absolute()))
        inside = Path(git(folder, "rev-parse", "--show-prefix") or ".")  # the service may live in a part of its repository
        yield tree / inside
    finally:
        with suppress(UsageError, CannotMeasure):
            git(folder, "worktree", "remove", "--force", str(tree))
        shutil.rmtree(place, ignore_errors=True)
        with suppress(UsageError, CannotMeasure):
            git(folder, "worktree", "prune")


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(command: str, folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A service started in a folder, without a shell, told its port by ``{port}`` in the command and by ``PORT``; ended with its group at the end."""
    argv = shlex.split(command.replace("{port}", str(port)))
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                argv, cwd=folder, env={**os.environ, "PORT": str(port)}, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            raise CannotMeasure(f"cannot start {command}", why=f"{error.filename or argv[0]}: {error.strerror}", fix="correct gate.start_command") from None
        try:
            yield process
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_S)
                    break
