"""Processes: who listens where, whose child is whose, what they use, and where they may run."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import psutil

from perfloop.errors import CannotMeasure, UsageError
from perfloop.host import sockdiag
from perfloop.host.command import Completed as Completed
from perfloop.host.command import run_command as run_command
from perfloop.host.procfs import gone, read_stat

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 -- compared with, never bound to


def start_time_s(pid: int) -> float | None:
    """When a process started, in seconds since boot; with the pid it names a process for ever. None where it does not run (or is a zombie)."""
    try:
        stat = read_stat(pid)
    except CannotMeasure:
        return None
    return None if stat.state in "ZX" else stat.started_s


def end_process(pid: int, started_s: float, patience_s: float) -> Literal["stopped", "killed", "gone", "refused"]:
    """Asks one process to end (SIGTERM), and kills it where it has not after ``patience_s``. ``started_s`` names it: another one that has got its pid meanwhile is left alone."""
    try:
        handle = os.pidfd_open(pid) if sys.platform == "linux" else -1
    except ProcessLookupError:
        return "gone"
    try:
        if start_time_s(pid) != started_s:
            return "gone"
        for number, patience in ((signal.SIGTERM, patience_s), (signal.SIGKILL, patience_s)):
            try:
                if handle >= 0:
                    signal.pidfd_send_signal(handle, number)
                else:
                    os.kill(pid, number)
            except ProcessLookupError:
                return "gone"
            except PermissionError:
                return "refused"
            until_s = time.monotonic() + patience
            while time.monotonic() < until_s:
                if start_time_s(pid) != started_s:
                    return "stopped" if number == signal.SIGTERM else "killed"
                time.sleep(0.02)
        return "refused"
    finally:
        if handle >= 0:
            os.close(handle)


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system seconds of the processes together (without their children); CannotMeasure where one is gone.

    From each process's own CPU clock (nanoseconds, its ended threads included), whose id Linux makes from the pid; in steps of 10 ms elsewhere.
    """
    return sum(_cpu_clock_s(pid) for pid in pids)


def tree_cpu_seconds(pid: int) -> float:
    """The same for a process and all its descendants, ended ones included (in steps of 10 ms); CannotMeasure where it is gone."""
    try:
        root = psutil.Process(pid)
        total = 0.0
        for process in (root, *root.children(recursive=True)):
            try:
                spent = process.cpu_times()
            except psutil.Error:
                continue  # ended meanwhile: its parent's sum has it, or will
            total += spent.user + spent.system + spent.children_user + spent.children_system
    except psutil.Error:
        raise gone(pid) from None
    return total


def _cpu_clock_s(pid: int) -> float:
    if sys.platform == "linux":
        try:
            return time.clock_gettime(~pid << 3 | 2)  # CPUCLOCK_SCHED of the process: include/linux/posix-timers.h, clock_getcpuclockid(3)
        except OSError:
            pass  # gone, or a sandbox without it: the next line tells which
    return read_stat(pid).cpu_s


def descendants(pid: int) -> tuple[int, ...]:
    """Children, their children and so on, by pid; empty where the process is gone."""
    try:
        return tuple(sorted(child.pid for child in psutil.Process(pid).children(recursive=True)))
    except psutil.Error:
        return ()


def allowed_cpus() -> tuple[int, ...]:
    """Cores that this process may run on, in order."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cpus_of(pid: int) -> tuple[int, ...]:
    """Cores that a process may run on; empty where it is gone or the system does not tell."""
    try:
        return tuple(sorted(os.sched_getaffinity(pid)))
    except (OSError, AttributeError):
        return ()


def yields(pid: int) -> bool:
    """True where a process takes only CPU that nobody else wants: SCHED_IDLE, or nice 19. False where that cannot be seen."""
    try:
        idle = getattr(os, "SCHED_IDLE", None)
        return (idle is not None and os.sched_getscheduler(pid) == idle) or os.getpriority(os.PRIO_PROCESS, pid) >= 19
    except (OSError, AttributeError):
        return False


def pin(pid: int, cpus: Iterable[int]) -> None:
    """Let all threads of a process run on the given cores only; UsageError for cores that do not exist, CannotMeasure where it is gone or not ours."""
    wanted = set(cpus)
    try:
        threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208
        for thread in threads:
            os.sched_setaffinity(thread, wanted)
    except (FileNotFoundError, ProcessLookupError):
        if not Path(f"/proc/{pid}").exists():
            raise gone(pid) from None
    except PermissionError:
        raise CannotMeasure(f"cannot pin process {pid} to cores", "it belongs to another user", "run perfloop as that user or as root") from None
    except (OSError, ValueError):
        raise UsageError(f"cannot pin process {pid} to cores {sorted(wanted)}", f"it may run on cores {list(cpus_of(pid))}", "name cores among these") from None


def addresses_of(host: str) -> tuple[str, ...]:
    """IP addresses of a host name or address, without scope; empty where it does not resolve."""
    try:
        return (str(ipaddress.ip_address(host.strip("[]"))),)
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def is_local(host: str) -> bool:
    """True where every address of the host belongs to this machine (loopback, or one of its interfaces)."""
    addresses = addresses_of(host)
    if not addresses:
        return False
    own = {entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries}
    return all(address in own or ipaddress.ip_address(address).is_loopback or address in _WILDCARDS for address in addresses)


def listeners() -> list[sockdiag.TcpSocket]:
    """All listening TCP sockets of our network namespace."""
    return sockdiag.tcp_sockets((sockdiag.LISTEN,))


def listening_inodes(host: str, port: int, table: Iterable[sockdiag.TcpSocket] | None = None) -> set[int]:
    """Inodes of the sockets that listen on a port of a local host, on that very address or on all."""
    wanted = {*addresses_of(host), *_WILDCARDS}
    return {entry.inode for entry in (listeners() if table is None else table) if entry.local_port == port and entry.local_host in wanted}


def listening_pids(host: str, port: int) -> tuple[int, ...]:
    """Processes that listen on a local host and port, by pid: a server and the workers that share its socket.

    Empty where nothing listens there, or only processes that we may not look into (another user's, another container's).
    """
    if not hasattr(socket, "AF_NETLINK"):
        return _listening_pids_by_psutil(port)
    return holders(listening_inodes(host, port))


def holders(inodes: set[int]) -> tuple[int, ...]:
    """Processes that hold any of these sockets, by pid, as far as we may look."""
    if not inodes:
        return ()
    return tuple(sorted(pid for pid in all_pids() if inodes & sockdiag.socket_inodes(pid)))


def all_pids() -> list[int]:
    """All processes that we can see."""
    return sorted(psutil.pids())


def _listening_pids_by_psutil(port: int) -> tuple[int, ...]:
    found = set()
    for process in psutil.process_iter():
        try:
            if any(entry.status == psutil.CONN_LISTEN and entry.laddr.port == port for entry in process.net_connections("tcp")):
                found.add(process.pid)
        except psutil.Error:
            continue
    return tuple(sorted(found))
