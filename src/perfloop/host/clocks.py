"""Clocks and deadlines."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def boot_s() -> float:
    """Seconds since this machine booted (suspend included), the clock that process start times are told in."""
    if _BOOT_CLOCK is None:  # macOS has no such clock; its monotonic clock starts at boot
        return time.monotonic()
    return time.clock_gettime(_BOOT_CLOCK)


def boot_id() -> str:
    """Names this start of the machine; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Deadline:
    """A moment by which something must be over, told by the monotonic clock."""

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment that many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds left; negative once it is over."""
        return self.at_s - time.monotonic()

    @property
    def expired(self) -> bool:
        """True once no time is left."""
        return self.remaining_s <= 0


def sleep_until(monotonic_s: float) -> None:
    """Sleep until the monotonic clock shows that moment; returns at once where it is over."""
    remaining = monotonic_s - time.monotonic()
    if remaining > 0:
        time.sleep(remaining)
