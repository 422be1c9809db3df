"""What the kernel tells about the whole machine: CPU times, memory, pressure, network counters. Counters are since boot."""

from __future__ import annotations

import os
import re
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


@dataclass(frozen=True)
class DiskCounters:
    """One whole block device since boot (``/proc/diskstats``): requests, bytes, seconds of all requests together, seconds with at least one under way."""

    reads: int
    writes: int
    read_bytes: int
    written_bytes: int
    requests_s: float
    busy_s: float
    queue_s: float


_SECTOR_BYTES = 512
_DISK = re.compile(r"^(sd[a-z]+|vd[a-z]+|xvd[a-z]+|hd[a-z]+|nvme\d+n\d+|mmcblk\d+|dm-\d+|md\d+)$")


def disk_counters() -> dict[str, DiskCounters]:
    """Counters of the whole disks by name (no partitions, no loop devices); empty where this machine tells none."""
    found = {}
    try:
        text = _read("/proc/diskstats")
    except CannotMeasure:
        return {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 14 and _DISK.match(fields[2]):
            reads, _, read_sectors, read_ms, writes, _, write_sectors, write_ms, _, busy_ms, queue_ms = (int(value) for value in fields[3:14])
            found[fields[2]] = DiskCounters(
                reads, writes, read_sectors * _SECTOR_BYTES, write_sectors * _SECTOR_BYTES, (read_ms + write_ms) / 1000, busy_ms / 1000, queue_ms / 1000
            )
    return found


def time_wait_sockets() -> int | None:
    """TCP sockets in TIME_WAIT in our network namespace; None where the kernel does not tell."""
    try:
        fields = next(line.split() for line in _read("/proc/net/sockstat").splitlines() if line.startswith("TCP:"))
        return int(fields[fields.index("tw") + 1])
    except (CannotMeasure, StopIteration, ValueError):
        return None


def ports_range() -> tuple[int, int] | None:
    """First and last local port that the kernel gives to clients; None where it does not tell."""
    try:
        first, last = _read("/proc/sys/net/ipv4/ip_local_port_range").split()
        return int(first), int(last)
    except (CannotMeasure, ValueError):
        return None


def network_counters() -> dict[str, int]:
    """Counters of TCP and IP of our network namespace by the kernel's names (``ListenOverflows``, ``RetransSegs``, ``TCPTimeouts`` …)."""
    values: dict[str, int] = {}
    for path in ("/proc/net/snmp", "/proc/net/netstat"):
        lines = _read(path).splitlines()
        for names, numbers in zip(lines[::2], lines[1::2], strict=False):
            values.update(zip(names.split()[1:], map(int, numbers.split()[1:]), strict=False))
    return values
