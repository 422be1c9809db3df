"""Commands: started from a list, without a shell, in a process group of their own, with a time limit and bounded output."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from perfloop.errors import CannotMeasure, UsageError

OUTPUT_MAX_BYTES = 64 * 1024
GRACE_S = 2.0


@dataclass(frozen=True)
class Completed:
    """How a command ended. ``stdout`` and ``stderr`` are its last 64 KiB; ``timed_out`` where it was killed at its limit (``returncode`` is then negative)."""

    returncode: int
    stdout: str
    stderr: str
    elapsed_s: float
    timed_out: bool = False

    @property
    def ok(self) -> bool:
        """True where it ended by itself with status 0."""
        return self.returncode == 0 and not self.timed_out


def replace_process(program: str, argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Become another program, with these variables added to the environment; ``UsageError`` where the system refuses to start it."""
    try:
        os.execve(program, list(argv), {**os.environ, **env})  # noqa: S606 - a list, no shell
    except OSError as error:
        raise UsageError(f"cannot start {program}", why=error.strerror or str(error), fix="perfloop run -- COMMAND") from None


def run_command(command: str | Sequence[str], cwd: str | Path | None = None, timeout_s: float = 30.0, env: Mapping[str, str] | None = None) -> Completed:
    """Run a command (a list, or a text split as a shell would, without a shell) and wait at most ``timeout_s``; then its process group is ended.

    ``env`` replaces the environment where given. What the command leaves running in the background goes on. Raises UsageError where the text is no
    command, CannotMeasure where it cannot be started.
    """
    argv = _argv(command)
    started = time.monotonic()
    # Files, not pipes: a service that the command starts in the background would hold a pipe open for ever, or die of its being closed.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                argv, cwd=cwd, env=dict(env) if env is not None else None, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
        except OSError as error:
            subject = f"{error.filename or argv[0]}"
            raise CannotMeasure(
                f"cannot run {shlex.join(argv)}",
                f"{subject}: {error.strerror or type(error).__name__}",
                "check the command's path and its permission to execute",
            ) from None
        timed_out = False
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            if process.returncode is None:  # the limit was reached, or we were interrupted
                _end_group(process)
        return Completed(process.returncode, _tail(out), _tail(err), time.monotonic() - started, timed_out)


def _argv(command: str | Sequence[str]) -> list[str]:
    if not isinstance(command, str):
        argv = list(command)
    else:
        try:
            argv = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"{command[:80]!r} is not a command", str(error), "close the quotation") from None
    if not argv or not argv[0]:
        raise UsageError("the command is empty", "", "name a program and its arguments")
    if any("\0" in part for part in argv):
        raise UsageError("the command holds a NUL character", "", "remove it")
    return argv


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the command's own process group (its id is the child's pid, because of the new session): politely, then for sure."""
    for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
            break
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # members of the group that ignored the first signal


def _tail(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - OUTPUT_MAX_BYTES))
    return file.read(OUTPUT_MAX_BYTES).decode(errors="replace")
