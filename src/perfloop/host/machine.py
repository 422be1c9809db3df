"""What the kernel tells about the whole machine: CPU times, memory, pressure, network counters. Counters are since boot."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from perfloop.errors import CannotMeasure

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class CpuTimes:
    """Seconds of one core since boot. ``steal_s`` was taken by the hypervisor and is not part of ``busy_s``."""

    cpu: int
    busy_s: float
    idle_s: float
    steal_s: float


@dataclass(frozen=True)
class Pressure:
    """Pressure stall information: seconds since boot in which some task, or all tasks, waited for a resource."""

    some_s: float
    full_s: float


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise CannotMeasure(f"cannot read {path}", error.strerror or type(error).__name__, "perfloop reads the machine on Linux only; mount /proc") from None


def cpu_times() -> tuple[CpuTimes, ...]:
    """Times of each core, in core order."""
    cores = []
    for line in _read("/proc/stat").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, idle, iowait, irq, softirq, steal = (int(value) * _TICK_S for value in fields[:8])
            cores.append(CpuTimes(int(name[3:]), user + nice + system + irq + softirq, idle + iowait, steal))
    return tuple(cores)


def steal_seconds() -> float | None:
    """Seconds that the hypervisor took from all cores since boot; None where the kernel does not tell."""
    try:
        return sum(core.steal_s for core in cpu_times())
    except (CannotMeasure, ValueError):
        return None


def memory() -> dict[str, int]:
    """``/proc/meminfo`` in bytes (``MemTotal``, ``MemAvailable`` …)."""
    values = {}
    for line in _read("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        number, *unit = rest.split()
        values[name] = int(number) * (1024 if unit == ["kB"] else 1)
    return values


def vm_counters() -> dict[str, int]:
    """``/proc/vmstat`` (``pswpin``, ``pswpout``, ``pgmajfault`` …), in pages or events."""
    return {name: int(value) for name, _, value in (line.partition(" ") for line in _read("/proc/vmstat").splitlines())}


def pressure(resource: str) -> Pressure | None:
    """Pressure on ``cpu``, ``memory`` or ``io``; None where this kernel does not tell."""
    try:
        text = Path(f"/proc/pressure/{resource}").read_text()
    except OSError:  # no CONFIG_PSI, or psi=0 (reading then fails with EOPNOTSUPP)
        return None
    totals = {line.split()[0]: int(line.rsplit("total=", 1)[1]) / 1e6 for line in text.splitlines() if "total=" in line}
    return Pressure(totals.get("some", 0.0), totals.get("full", 0.0))


def network_counters() -> dict[str, int]:
    """Counters of TCP and IP of our network namespace by the kernel's names (``ListenOverflows``, ``RetransSegs``, ``TCPTimeouts`` …)."""
    values: dict[str, int] = {}
    for path in ("/proc/net/snmp", "/proc/net/netstat"):
        lines = _read(path).splitlines()
        for names, numbers in zip(lines[::2], lines[1::2], strict=False):
            values.update(zip(names.split()[1:], map(int, numbers.split()[1:]), strict=False))
    return values
