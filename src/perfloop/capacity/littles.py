"""Little's law, L = λ·W: how many requests were in the service at once, and whether a window agrees with itself."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from perfloop.model.run import Window

#: arrivals of a Poisson stream stray from their mean by this many standard deviations at most, plus a share for the ends of a window
DEVIATIONS = 4.0
END_SHARE = 0.02
TOLERANCE = 0.25


@dataclass(frozen=True)
class LittleCheck:
    """``concurrency`` is λ·W: answers per second times their mean seconds. ``ok`` False: the numbers contradict each other, ``note`` says which."""

    arrivals_per_s: float
    mean_s: float
    concurrency: float
    ok: bool
    note: str = ""


def check(window: Window, measured_concurrency: float | None = None, connections_max: int | None = None) -> LittleCheck:
    """Check one window of open load: were as many requests sent as intended, does λ·W fit under the connections, and does it agree with a concurrency
    counted elsewhere (sessions, sockets) where one is given."""
    sent, ok = sum(step.sent for step in window.steps), sum(step.ok for step in window.steps)
    seconds = sum(step.latency.sum_s for step in window.steps)
    duration_s = window.duration_s or 1.0
    mean_s = seconds / ok if ok else 0.0
    concurrency = seconds / duration_s
    intended = window.rate_per_s * window.duration_s
    notes = []
    if not window.stopped_early and abs(sent - intended) > DEVIATIONS * sqrt(max(1.0, intended)) + END_SHARE * intended:
        notes.append(f"{sent} requests were sent where {intended:.0f} were intended")
    if connections_max is not None and concurrency > connections_max * (1 + TOLERANCE):
        notes.append(f"{concurrency:.1f} requests at once do not fit {connections_max} connections: latency includes waiting for a connection")
    if measured_concurrency is not None and abs(measured_concurrency - concurrency) > TOLERANCE * max(concurrency, measured_concurrency, 1.0):
        notes.append(f"{measured_concurrency:.1f} requests were counted at once, rate times latency gives {concurrency:.1f}")
    return LittleCheck(arrivals_per_s=sent / duration_s, mean_s=mean_s, concurrency=concurrency, ok=not notes, note="; ".join(notes))
