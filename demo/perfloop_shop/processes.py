"""Start a process in a session of its own, remember it by pid and start time, and end exactly that one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perfloop.errors import CannotMeasure


def start_ticks(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty where it is gone or a zombie. With the pid it names one process for ever."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def on_cpus(cpus: Sequence[int]) -> Iterator[None]:
    """Processes started inside inherit these CPUs. Affinity belongs to the thread, so no other thread of ours is touched."""
    before = os.sched_getaffinity(0)
    wanted = set(cpus) & set(range(os.cpu_count() or 1))
    try:
        if wanted:
            os.sched_setaffinity(0, wanted)
    except OSError:  # a cgroup does not give us that CPU: unpinned is still right
        pass
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def spawn(
    argv: Sequence[str], *, log: Path, pid_file: Path, cwd: Path, env: Mapping[str, str], cpus: Sequence[int] = (), user: str | None = None
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in a new session with its output in ``log`` and its name in ``pid_file``."""
    who: dict[str, Any] = {"user": user, "group": _group(user), "extra_groups": []} if user else {}
    with log.open("ab") as out, on_cpus(cpus):
        child = subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd, env=dict(env), start_new_session=True, **who)
    pid_file.write_text(f"{child.pid} {start_ticks(child.pid)}\n")
    return child


def _group(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def read_pid(pid_file: Path) -> int | None:
    """The pid in ``pid_file`` if that very process still runs, else None."""
    try:
        pid_text, ticks = pid_file.read_text().split()
        pid = int(pid_text)
    except (OSError, ValueError):
        return None
    return pid if ticks == start_ticks(pid) else None


def stop(pid_file: Path, *, first: signal.Signals = signal.SIGTERM, timeout_s: float = 10.0) -> None:
    """End the process of ``pid_file``: ``first``, then SIGKILL after ``timeout_s``; returns when it is gone."""
    pid = read_pid(pid_file)
    if pid is not None:
        for sign, patience_s in ((first, timeout_s), (signal.SIGKILL, 5.0)):
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                break
            deadline = time.monotonic() + patience_s
            while read_pid(pid_file) is not None and time.monotonic() < deadline:
                time.sleep(0.02)
            if read_pid(pid_file) is None:
                break
        reap(pid)
    pid_file.unlink(missing_ok=True)


def reap(pid: int) -> None:
    """Collect the exit status where the process is our own child, so that no zombie stays."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def wait_until(ready: Callable[[], bool], *, what: str, pid_file: Path, log: Path, timeout_s: float) -> None:
    """Poll ``ready`` until it says yes; raises ``CannotMeasure`` with the end of the log when the process ends or the time is up."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if read_pid(pid_file) is None:
            raise CannotMeasure(f"{what} ended while it was starting", why=log_tail(log), fix=f"see {log}")
        if time.monotonic() > deadline:
            raise CannotMeasure(f"{what} was not ready within {timeout_s:g} s", why=log_tail(log), fix=f"see {log}")
        time.sleep(0.03)


def log_tail(log: Path, lines: int = 6) -> str:
    """The last lines of a log, for a message."""
    try:
        return " | ".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
