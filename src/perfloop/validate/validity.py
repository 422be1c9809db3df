"""Whether rounds may be compared at all. Decided from the generator, the load and the errors, never from the latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfloop.model.run import Window
from perfloop.validate.levels import samples, sent_and_failed

Pair = tuple[Window, Window]

#: fewer requests of the step in a round say too little about its p95
REQUESTS_MIN = 10
#: rates of two arms may differ by so much
RATE_TOLERANCE = 0.01
#: from this share of failed requests on, latencies of the successes no longer describe the service
ERROR_STORM = 0.5
#: pairs in which the generator was late are left out, whichever arm it was; at most this share of all
LATE_SHARE_MAX = 0.25
PAIRS_MIN = 3
#: a level that moves by so much between the halves of the rounds is no steady state
DRIFT_FACTOR = 2.0
DRIFT_ROUNDS_MIN = 2


@dataclass(frozen=True)
class Usable:
    """The pairs that count. ``invalid`` says why there is no verdict at all; ``broken`` why the change must be called a regression; ``note`` what was left out."""

    pairs: tuple[Pair, ...]
    invalid: str = ""
    broken: str = ""
    note: str = ""


def usable(pairs: Sequence[Pair], step: str | None, metric: str) -> Usable:
    """Sort out what cannot be compared."""
    if not pairs:
        return Usable((), invalid="no rounds were run")
    kept = tuple(pair for pair in pairs if pair[0].generator_ok and pair[1].generator_ok)
    late = len(pairs) - len(kept)
    if late and (late > LATE_SHARE_MAX * len(pairs) or len(kept) < PAIRS_MIN):
        return Usable(kept, invalid=f"the generator was the bottleneck in {late} of {len(pairs)} pairs")
    for before, after in kept:
        if abs(before.rate_per_s - after.rate_per_s) > RATE_TOLERANCE * max(before.rate_per_s, after.rate_per_s):
            return Usable(kept, invalid=f"the two arms were sent different rates: {before.rate_per_s:g} and {after.rate_per_s:g} requests/s")
        if _storm(before):
            return Usable(kept, invalid=f"without the change too many requests failed: {_errors(before)}")
        if _storm(after):
            return Usable(kept, broken=f"with the change too many requests failed: {_errors(after)}")
        if metric == "cpu_per_request" and (before.cpu_seconds is None or after.cpu_seconds is None):
            return Usable(kept, invalid="the service's CPU time was not measured")
        fewest = min(sum(one.ok for one in samples(window, step)) for window in (before, after))
        if fewest < REQUESTS_MIN:
            return Usable(
                kept, invalid=f"a round had {fewest} answers of {step or 'all requests'}; at least {REQUESTS_MIN} are needed: lengthen measure.pairs_window_s"
            )
    return Usable(kept, note=f"{late} pair{'s' * (late > 1)} left out because the generator was late" if late else "")


def drifted(levels: Sequence[float]) -> str:
    """How the level without the change moved: where all of its later rounds lie beyond all earlier ones and their means differ by a factor of two;
    empty otherwise. Pairs cancel a slow drift, but one of this size says that the service is in no state to be judged."""
    half = len(levels) // 2
    if half < DRIFT_ROUNDS_MIN:
        return ""
    first, last = levels[:half], levels[-half:]
    means = sum(first) / half, sum(last) / half
    apart = min(last) > max(first) or max(last) < min(first)
    if not apart or max(means) < DRIFT_FACTOR * min(means):
        return ""
    return f"× {means[1] / means[0]:.1f} from the first half of its rounds to the last"


def _storm(window: Window) -> bool:
    sent, failed = sent_and_failed([window])
    return bool(window.stopped_early) or (sent > 0 and failed > ERROR_STORM * sent)


def _errors(window: Window) -> str:
    sent, failed = sent_and_failed([window])
    return window.stopped_early or f"{failed} of {sent}"
