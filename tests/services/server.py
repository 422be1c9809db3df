"""One server process: started, awaited until it answers on its port, ended by its process id."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_MAX_S = 30.0
END_MAX_S = 5.0


@dataclass(frozen=True)
class Server:
    """A server that answers on ``host:port``; its files are in ``folder``, its output in ``folder/<name>.log``."""

    name: str
    host: str
    port: int
    pid: int
    folder: Path


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    """The path of a program, also where /usr/sbin is not in PATH; a test without it fails and says what to run."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))
    if not found:
        raise RuntimeError(f"{name} is not installed: make services")
    return found


@contextmanager
def started(name: str, argv: Sequence[str], port: int, folder: Path, host: str = "127.0.0.1", user: str | None = None, **words: object) -> Iterator[Server]:
    """Runs ``argv`` until the block ends. Raises ``RuntimeError`` with the end of its log where it does not answer in time."""
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=folder, user=user, process_group=0, **words)  # type: ignore[call-overload]
    try:
        _await(process, host, port, log)
        yield Server(name, host, port, process.pid, folder)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Asks the process to end, and kills it by its id where it does not."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(END_MAX_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _await(process: subprocess.Popen[bytes], host: str, port: int, log: Path) -> None:
    until = time.monotonic() + START_MAX_S
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection((host, port), 0.5).close()
        except OSError:
            time.sleep(0.02)
        else:
            if process.poll() is None:  # the port could be another's
                return
    raise RuntimeError(f"{process.args} did not start: {log.read_text(errors='replace')[-2000:]}")
