"""What the kernel tells about one process, in files under ``/proc/PID``. All counters are since the process started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from perfloop.errors import CannotMeasure

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_READ_MAX_BYTES = 4 * 2**20


@dataclass(frozen=True)
class ProcessStat:
    """``/proc/PID/stat``. CPU times are of the process alone, in steps of 10 ms; ``started_s`` is seconds since boot."""

    pid: int
    name: str
    state: str  # R, S, D, Z, T …
    parent_pid: int
    process_group: int
    minor_faults: int
    major_faults: int
    user_s: float
    system_s: float
    threads: int
    started_s: float
    rss_bytes: int

    @property
    def cpu_s(self) -> float:
        """User and system time together, in seconds."""
        return self.user_s + self.system_s


@dataclass(frozen=True)
class SchedStat:
    """``schedstat`` summed over the threads alive now: seconds on a CPU, seconds runnable but waiting for one, and turns."""

    cpu_s: float
    run_delay_s: float
    turns: int


@contextmanager
def _process(pid: int, what: str) -> Iterator[None]:
    """Turns what the kernel says about a missing or foreign process into the message a user can act on."""
    try:
        yield
    except (FileNotFoundError, ProcessLookupError):
        raise gone(pid) from None
    except PermissionError:
        raise CannotMeasure(f"cannot read {what} of process {pid}", "it belongs to another user", "run perfloop as that user or as root") from None


def gone(pid: int) -> CannotMeasure:
    """The error for a process that is not there any more."""
    return CannotMeasure(f"process {pid} does not run any more", f"/proc/{pid} is gone", "start the service again, then run the command again")


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 -- read hundreds of times a second; Path doubles the cost
        return file.read(_READ_MAX_BYTES)


def read_stat(pid: int) -> ProcessStat:
    """Name, state, times, faults, threads and start of a process; CannotMeasure where it is gone."""
    with _process(pid, "the counters"):
        text = _read(f"/proc/{pid}/stat").decode(errors="replace")
    head, _, tail = text.rpartition(")")  # the name may hold spaces and parentheses
    fields = tail.split()
    if len(fields) < 22:
        raise gone(pid)
    return ProcessStat(
        pid=pid,
        name=head.partition("(")[2],
        state=fields[0],
        parent_pid=int(fields[1]),
        process_group=int(fields[2]),
        minor_faults=int(fields[7]),
        major_faults=int(fields[9]),
        user_s=int(fields[11]) * _TICK_S,
        system_s=int(fields[12]) * _TICK_S,
        threads=int(fields[17]),
        started_s=int(fields[19]) * _TICK_S,
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
    )


def read_status(pid: int) -> dict[str, str]:
    """``/proc/PID/status`` as names and values (``Uid``, ``CapEff``, ``VmRSS`` …)."""
    with _process(pid, "the status"):
        text = _read(f"/proc/{pid}/status").decode(errors="replace")
    return {name: value.strip() for name, colon, value in (line.partition(":") for line in text.splitlines()) if colon}


def context_switches(pid: int) -> tuple[int, int]:
    """(voluntary, involuntary) context switches, summed over the threads alive now."""
    totals = [0, 0]
    for path in _task_files(pid, "status"):
        try:
            text = _read(path)
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that just ended
        for line in text.splitlines()[-2:]:
            name, _, value = line.partition(b":")
            totals[name.startswith(b"non")] += int(value or 0)
    return totals[0], totals[1]


def read_schedstat(pid: int) -> SchedStat | None:
    """Scheduler times of all threads of a process; None where this kernel does not keep them."""
    cpu_ns = delay_ns = turns = found = 0
    for path in _task_files(pid, "schedstat"):
        try:
            fields = _read(path).split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if len(fields) >= 3:
            cpu_ns, delay_ns, turns, found = cpu_ns + int(fields[0]), delay_ns + int(fields[1]), turns + int(fields[2]), 1
    return SchedStat(cpu_ns / 1e9, delay_ns / 1e9, turns) if found else None


def _task_files(pid: int, name: str) -> list[str]:
    with _process(pid, "the threads"):
        return [f"/proc/{pid}/task/{thread}/{name}" for thread in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208


def rss_bytes(pid: int) -> int:
    """Resident memory now, in bytes."""
    with _process(pid, "the memory"):
        return int(_read(f"/proc/{pid}/statm").split()[1]) * _PAGE_BYTES


def fd_count(pid: int) -> int:
    """Open file descriptors now; CannotMeasure for a process of another user."""
    with _process(pid, "the file descriptors"):
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


def socket_count(pid: int) -> int:
    """Open sockets of a process; CannotMeasure where it is gone or another user's."""
    count = 0
    with _process(pid, "the open files"):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                count += os.readlink(entry.path).startswith("socket:")  # noqa: PTH115 -- read every second
            except (FileNotFoundError, ProcessLookupError):
                continue  # closed meanwhile
    return count


def fd_limit(pid: int) -> int | None:
    """How many file descriptors it may open (soft limit); None where unlimited."""
    with _process(pid, "the limits"):
        text = _read(f"/proc/{pid}/limits").decode()
    for line in text.splitlines():
        if line.startswith("Max open files"):
            soft = line[len("Max open files") :].split()[0]
            return None if soft == "unlimited" else int(soft)
    return None


def argv(pid: int) -> tuple[str, ...]:
    """The command line, **with** whatever secrets stand in it: redact before it is shown or stored."""
    with _process(pid, "the command line"):
        data = _read(f"/proc/{pid}/cmdline")
    return tuple(part.decode(errors="replace") for part in data.rstrip(b"\0").split(b"\0")) if data else ()


def link(pid: int, name: str) -> str:
    """Where ``/proc/PID/cwd``, ``exe`` or ``root`` points; empty where we may not look."""
    try:
        return str(Path(f"/proc/{pid}/{name}").readlink()).removesuffix(" (deleted)")
    except OSError:
        return ""


def mapped_files(pid: int) -> tuple[str, ...]:
    """The files mapped into a process (program, libraries), each once; empty where we may not look."""
    try:
        data = _read(f"/proc/{pid}/maps")
    except OSError:
        return ()
    found: dict[str, None] = {}
    for line in data.splitlines():
        parts = line.split(None, 5)
        if len(parts) == 6 and parts[5].startswith(b"/"):
            found[parts[5].decode(errors="replace").removesuffix(" (deleted)")] = None
    return tuple(found)


def io_bytes(pid: int) -> tuple[int, int] | None:
    """(read, written) bytes that went to or came from a disk since it started; None where we may not look."""
    try:
        values = dict(line.split(b": ") for line in _read(f"/proc/{pid}/io").splitlines())
        return int(values[b"read_bytes"]), int(values[b"write_bytes"])
    except (OSError, KeyError, ValueError):
        return None


def swapped_bytes(pid: int) -> int | None:
    """Bytes of its memory that are swapped out; None where the kernel does not tell."""
    value = read_status(pid).get("VmSwap", "").split()
    return int(value[0]) * 1024 if value and value[0].isdigit() else None


def all_cpu_seconds() -> dict[int, tuple[float, str, int]]:
    """CPU seconds, name and parent of every process that we can see, by pid."""
    found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if entry.isdigit():
            try:
                stat = read_stat(int(entry))
            except CannotMeasure:
                continue
            found[stat.pid] = (stat.cpu_s, stat.name, stat.parent_pid)
    return found
