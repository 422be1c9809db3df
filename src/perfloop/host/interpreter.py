"""Reads the state of a running CPython's garbage collector from outside, without stopping it: is it collecting now, and how often has it collected.

Where these fields lie differs by version and build, so the target's own program is asked: a short script, run by the same file in isolated mode, finds
the collector's state inside its own memory (by values that it has just set) and prints the offsets. The target is then read at the same offsets.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from perfloop.errors import CannotMeasure, PerfloopError
from perfloop.host.command import run_command
from perfloop.host.procfs import link

CALIBRATE_MAX_S = 5.0

_SCRIPT = r"""
import ctypes, gc, json, os, struct, sys
api = ctypes.pythonapi
api.PyInterpreterState_Main.restype = ctypes.c_void_p
interp, runtime = api.PyInterpreterState_Main(), ctypes.addressof(ctypes.c_char.in_dll(api, "_PyRuntime"))
mem = os.open("/proc/self/mem", os.O_RDONLY)
read = lambda at, size: os.pread(mem, size, at)
size = 1 << 17
while size > 4096:
    try:
        read(interp, size)
        break
    except OSError:
        size //= 2
inside = []
gc.callbacks.append(lambda phase, info: inside.append(read(interp, size)))
for _ in range(7): gc.collect(0)
for _ in range(5): gc.collect(1)
gc.collect()
outside = read(interp, size)
gc.callbacks.clear()
counts = [(s["collections"], s["collected"], s["uncollectable"]) for s in gc.get_stats()]
stats = outside.find(struct.pack("=9q", *(n for row in counts for n in row)))
ints = lambda data: struct.unpack("=%di" % (len(data) // 4), data)
before, during = ints(outside), [ints(data) for data in inside]
flags = [4 * i for i, n in enumerate(before) if n == 0 and all(d[i] == 1 for d in during)]
near = sorted((abs(at - stats - 72), at) for at in flags) if stats >= 0 else []
head = read(runtime, 8192)
pointer = next(i for i in range(0, len(head), 8) if struct.unpack_from("=Q", head, i)[0] == interp)
for line in open("/proc/self/maps"):
    parts = line.split()
    low, high = (int(x, 16) for x in parts[0].split("-"))
    if len(parts) > 5 and parts[2] == "00000000": name, base = parts[5], low
    if low <= runtime < high: break
print(json.dumps({"file": name, "runtime": runtime - base, "interpreter": pointer, "stats": stats, "collecting": near[0][1] if near and near[0][0] <= 256 else -1}))
"""


@dataclass(frozen=True)
class _Layout:
    file: str
    runtime: int
    interpreter: int
    stats: int
    collecting: int


class Collector:
    """The collector of one running process. ``CannotMeasure`` where it cannot be found or read."""

    def __init__(self, pid: int) -> None:
        layout = _layout_of(pid)
        base = _base_of(pid, layout.file)
        try:
            self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise CannotMeasure(
                f"cannot read the memory of process {pid}", error.strerror or "", "run perfloop as the service's user (ptrace_scope 0) or as root"
            ) from None
        try:
            interpreter = struct.unpack("=Q", os.pread(self._memory, 8, base + layout.runtime + layout.interpreter))[0]
            self._flag_at, self._stats_at = interpreter + layout.collecting, interpreter + layout.stats
            if self.collecting() not in (True, False) or any(not 0 <= count < 1 << 40 for count in self.collections()):
                raise _unknown(pid)
        except (OSError, struct.error):
            self.close()
            raise _unknown(pid) from None

    def collecting(self) -> bool:
        """True while a collection runs; ``CannotMeasure`` where the process is gone."""
        value = struct.unpack("=i", self._read(self._flag_at, 4))[0]
        return bool(value)

    def collections(self) -> tuple[int, ...]:
        """Collections since the process started, youngest generation first."""
        return struct.unpack("=9q", self._read(self._stats_at, 72))[::3]

    def close(self) -> None:
        """Let go of the process's memory."""
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def _read(self, at: int, size: int) -> bytes:
        try:
            data = os.pread(self._memory, size, at)
        except OSError as error:
            raise CannotMeasure("the interpreter's memory cannot be read any more", error.strerror or "") from None
        if len(data) != size:
            raise CannotMeasure("the interpreter's memory cannot be read any more", "the process ended")
        return data


def _layout_of(pid: int) -> _Layout:
    program = link(pid, "exe")
    try:
        stat = Path(program).stat()
    except OSError:
        raise _unknown(pid) from None
    if stat.st_uid not in (0, os.geteuid()):
        raise CannotMeasure(f"the interpreter of process {pid} belongs to another user", "it is not run for calibration", "run perfloop as that user")
    return _calibrated(program, stat.st_mtime_ns, pid)


@lru_cache(maxsize=16)
def _calibrated(program: str, _changed_ns: int, pid: int) -> _Layout:
    try:
        done = run_command([program, "-I", "-S", "-c", _SCRIPT], timeout_s=CALIBRATE_MAX_S)
        layout = _Layout(**json.loads(done.stdout))
    except (PerfloopError, ValueError, TypeError):
        raise _unknown(pid) from None
    if layout.stats < 0 or layout.collecting < 0:
        raise _unknown(pid)
    return layout


def _base_of(pid: int, file: str) -> int:
    try:
        with Path(f"/proc/{pid}/maps").open() as lines:
            for line in lines:
                parts = line.split()
                if len(parts) > 5 and parts[5] == file and parts[2] == "00000000":
                    return int(parts[0].partition("-")[0], 16)
    except OSError:
        pass
    raise _unknown(pid)


def _unknown(pid: int) -> CannotMeasure:
    return CannotMeasure(
        f"the garbage collector of process {pid} cannot be found in its memory",
        "its interpreter is built in a way that is not known here",
        "run without it: --skip collector",
    )
