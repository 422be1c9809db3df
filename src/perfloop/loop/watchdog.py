"""The watchdog: a process of its own session that undoes open changes when the perfloop that made them dies or hangs.

``python -m perfloop.loop.watchdog --state-dir DIR --parent PID``. It imports everything first and answers ``1`` on stdout when it is armed.
Its stdin is the line to its parent: one JSON line of settings, then ``q`` when nothing is open; the end of the file is the parent's death.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from perfloop.errors import ChangeRefused, PerfloopError, StorageError, UndoFailed
from perfloop.loop import plugins
from perfloop.loop.recover import announce, undo_change
from perfloop.model.change import ChangeState, JournalEntry
from perfloop.model.config import IncidentsConfig
from perfloop.store.audit import AuditLog
from perfloop.store.journal import Journal
from perfloop.store.locks import alive, started_s

ARMED = b"1"
QUIT = b"q"
#: importing everything on a busy machine; then perfloop goes on without changing anything
ARM_MAX_S = 30.0
TICK_S = 0.5
_SETTINGS_MAX_BYTES = 64 * 1024
_LOG_MAX_BYTES = 2**20


class Watchdog:
    """The parent's end: starts the process, asks whether it still lives, and dismisses it."""

    def __init__(self, root: Path, settings: Mapping[str, object]) -> None:
        self._root, self._settings = root, dict(settings)
        self._process = self._started()

    @property
    def pid(self) -> int:
        """The watchdog's process id."""
        return self._process.pid

    def ensure(self) -> None:
        """Starts another one where it was killed; ``ChangeRefused`` where that fails, and nothing may be changed then."""
        if self._process.poll() is not None:
            self._close()
            self._process = self._started()

    def dismiss(self) -> None:
        """Tells it that nothing is open; it ends by itself, and is not waited for longer than a few seconds."""
        with suppress(OSError, ValueError):
            if self._process.stdin:
                self._process.stdin.write(QUIT)
                self._process.stdin.flush()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._close()

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream:
                    stream.close()

    def _started(self) -> subprocess.Popen[bytes]:
        log = self._root / "watchdog.log"
        argv = [sys.executable, "-P", "-m", "perfloop.loop.watchdog", "--state-dir", str(self._root), "--parent", str(os.getpid())]
        try:
            mode = "ab" if log.exists() and log.stat().st_size < _LOG_MAX_BYTES else "wb"
            with log.open(mode) as errors:
                process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True, bufsize=0)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(self._settings).encode() + b"\n")
            ready, _, _ = select.select([process.stdout], [], [], ARM_MAX_S)
            if ready and process.stdout.read(1) == ARMED:
                return process
        except OSError as error:
            raise ChangeRefused(
                "the watchdog could not be started, so nothing is changed", why=str(error), fix="free memory, processes or disk, then run this again"
            ) from error
        process.kill()
        process.wait()
        raise ChangeRefused("the watchdog could not be armed, so nothing is changed", why=f"see {log}", fix="run this again; report it where it happens again")


def main(argv: list[str] | None = None) -> int:
    """Watches until dismissed or until everything the parent left open is undone; 0, or 5 where an undo failed."""
    parser = argparse.ArgumentParser(prog="perfloop.loop.watchdog")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # it ends when its parent has, never before
    return _Watch(options.state_dir, options.parent).run()


class _Watch:
    """The watchdog's own end."""

    def __init__(self, root: Path, parent: int) -> None:
        self._parent, self._parent_started_s = parent, started_s(parent)
        settings = json.loads(_line(0))
        self._incidents = IncidentsConfig.model_validate(settings.get("incidents", {}))
        self._journal = Journal(root)
        self._audit = AuditLog(root, user=settings["user"], environment=settings["environment"], change_ticket=settings.get("change_ticket"))
        self._kinds: dict[str, ModuleType] = plugins.load("change kind")
        self._failed = False

    def run(self) -> int:
        poller = select.poll()
        poller.register(0, select.POLLIN | select.POLLHUP)
        with suppress(OSError, AttributeError):  # no pidfd here, or the parent is gone already: the pipe and getppid tell it too
            poller.register(os.pidfd_open(self._parent), select.POLLIN)
        os.write(1, ARMED)
        while True:
            events = poller.poll(TICK_S * 1000)
            said = os.read(0, 16) if any(descriptor == 0 for descriptor, _ in events) else None
            if said is not None and QUIT in said and not self._open():
                return self._exit_code()
            if (said is not None and (not said or QUIT in said)) or os.getppid() != self._parent or any(descriptor != 0 for descriptor, _ in events):
                return self._orphaned()
            for entry in self._open():
                if self._journal.lease_left_s(entry.change.id) < 0:
                    self._undo(entry, f"its lease ended: process {entry.owner_pid} did not renew it")

    def _orphaned(self) -> int:
        entries = self._open()
        for entry in entries:
            self._undo(entry, f"process {entry.owner_pid} ended before it was decided")
        undone = [entry.change.id for entry in entries if (now := self._journal.get(entry.change.id)) and now.state == ChangeState.UNDONE]
        deadline = time.monotonic() + 5  # a process that has just been killed may be seen a moment longer
        while self._parent_started_s and alive(self._parent, self._parent_started_s) and time.monotonic() < deadline:
            time.sleep(0.05)
        try:
            self._audit.close_abandoned(rolled_back=undone)
        except StorageError as error:  # the next command writes these lines
            _say(error)
        return self._exit_code()

    def _open(self) -> list[JournalEntry]:
        return [entry for entry in self._journal.open_entries() if entry.owner_pid == self._parent and entry.state != ChangeState.STUCK]

    def _undo(self, entry: JournalEntry, reason: str) -> None:
        try:
            undo_change(entry.change.id, journal=self._journal, audit=self._audit, reason=f"watchdog: {reason}", kinds=self._kinds)
        except UndoFailed as error:
            self._failed = True
            announce(error, entry, self._journal.root, self._incidents)
            _say(error)
        except PerfloopError as error:
            self._failed = True
            _say(error)

    def _exit_code(self) -> int:
        return UndoFailed.exit_code if self._failed else 0


def _say(error: PerfloopError) -> None:
    """Into watchdog.log, as far as its disk takes it."""
    with suppress(OSError):
        sys.stderr.write(error.render() + "\n")
        sys.stderr.flush()


def _line(descriptor: int) -> bytes:
    """One line, byte by byte, so that nothing after it is swallowed."""
    line = b""
    while len(line) < _SETTINGS_MAX_BYTES and not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    return line or b"{}"


if __name__ == "__main__":
    code = main()
    os._exit(code)  # an undo that is over its time must not hold the process
