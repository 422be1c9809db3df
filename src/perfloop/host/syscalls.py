"""What each thread of a process is in right now: its state, the system call it waits in, and the descriptor that call is about. Nothing is stopped."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

THREADS_MAX = 1000

#: number → (name, True where the first argument is a descriptor); linux/arch/*/entry/syscalls
_X86_64 = {
    0: ("read", True), 1: ("write", True), 3: ("close", True), 7: ("poll", False), 17: ("pread64", True), 18: ("pwrite64", True), 19: ("readv", True),
    20: ("writev", True), 23: ("select", False), 24: ("sched_yield", False), 35: ("nanosleep", False), 42: ("connect", True), 43: ("accept", True),
    44: ("sendto", True), 45: ("recvfrom", True), 46: ("sendmsg", True), 47: ("recvmsg", True), 61: ("wait4", False), 73: ("flock", True),
    74: ("fsync", True), 75: ("fdatasync", True), 162: ("sync", False), 202: ("futex", False), 230: ("clock_nanosleep", False), 232: ("epoll_wait", True),
    270: ("pselect6", False), 271: ("ppoll", False), 277: ("sync_file_range", True), 281: ("epoll_pwait", True), 288: ("accept4", True),
    306: ("syncfs", True), 426: ("io_uring_enter", True), 441: ("epoll_pwait2", True),
}  # fmt: skip
_AARCH64 = {
    22: ("epoll_pwait", True), 32: ("flock", True), 57: ("close", True), 63: ("read", True), 64: ("write", True), 65: ("readv", True), 66: ("writev", True),
    67: ("pread64", True), 68: ("pwrite64", True), 72: ("pselect6", False), 73: ("ppoll", False), 81: ("sync", False), 82: ("fsync", True),
    83: ("fdatasync", True), 84: ("sync_file_range", True), 98: ("futex", False), 101: ("nanosleep", False), 115: ("clock_nanosleep", False),
    124: ("sched_yield", False), 202: ("accept", True), 203: ("connect", True), 206: ("sendto", True), 207: ("recvfrom", True), 211: ("sendmsg", True),
    212: ("recvmsg", True), 242: ("accept4", True), 260: ("wait4", False), 267: ("syncfs", True), 426: ("io_uring_enter", True), 441: ("epoll_pwait2", True),
}  # fmt: skip
_NAMES = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(platform.machine(), {})


@dataclass(frozen=True, slots=True)
class ThreadState:
    """One thread now. ``syscall`` is empty where it runs or the kernel does not tell; ``descriptor`` -1 where the call has none; ``target`` what the descriptor is open on."""

    thread: int
    state: str
    syscall: str = ""
    descriptor: int = -1
    target: str = ""  # socket:[INODE], pipe:[…], a path


def thread_states(pid: int) -> list[ThreadState]:
    """All threads of a process; empty where it is gone. Reading the call needs the right to trace the process; without it only the state is told."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")[:THREADS_MAX]  # noqa: PTH208 -- read many times a second
    except OSError:
        return []
    return [found for thread in threads if (found := _one(pid, thread)) is not None]


def readable(pid: int) -> bool:
    """True where the kernel tells us the calls of this process."""
    return bool(_NAMES) and _read(f"/proc/{pid}/syscall") != b""


def _one(pid: int, thread: str) -> ThreadState | None:
    stat = _read(f"/proc/{pid}/task/{thread}/stat")
    if not stat:
        return None
    state = chr(stat[stat.rindex(b")") + 2])
    if state == "R":
        return ThreadState(int(thread), state)
    fields = _read(f"/proc/{pid}/task/{thread}/syscall").split()
    if not fields or not fields[0].isdigit():  # "running", "-1 …" (a fault), or not allowed
        return ThreadState(int(thread), "R" if fields[:1] == [b"running"] else state)
    name, has_descriptor = _NAMES.get(int(fields[0]), (f"syscall {int(fields[0])}", False))
    if not has_descriptor or len(fields) < 2:
        return ThreadState(int(thread), state, name)
    descriptor = int(fields[1], 16)
    try:
        target = os.readlink(f"/proc/{pid}/fd/{descriptor}")  # noqa: PTH115
    except OSError:
        target = ""
    return ThreadState(int(thread), state, name, descriptor, target)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return file.read(4096)
    except OSError:
        return b""
