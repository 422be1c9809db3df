"""After an undo: is the service as fast as before the change? A short measured round, compared with the spread of the baseline."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

from perfloop.loop.measure import Meter
from perfloop.model.event import Event
from perfloop.model.run import Window
from perfloop.validate.levels import level, sent_and_failed

ROUNDS_MAX = 3
#: a round is back where it is no slower than the slowest baseline window by this factor or by the baseline's own spread, whichever is more
SLACK = 1.10
ERRORS_MORE = 0.01


def back_in_band(meter: Meter, baseline: Sequence[Window], rate_per_s: float) -> Generator[Event, None, str]:
    """Measures until a round is back in the baseline's band, at most three times; empty where it is, else what is not."""
    why = ""
    if not baseline:
        return why
    for number in range(ROUNDS_MAX):
        window = yield from meter.window("after the undo", rate_per_s, meter.config.measure.pairs_window_s, seed=900 + number)
        why = outside(window, baseline)
        if not why:
            return ""
    return why


def outside(window: Window, baseline: Sequence[Window]) -> str:
    """What of a round is outside the baseline's band; empty where nothing is. Faster than ever is inside."""
    for metric in ("mean_s", "p95_s"):
        before = [value for one in baseline if (value := level([one], None, metric))]
        now = level([window], None, metric)
        if not before:
            continue
        if now is None:
            return f"no request succeeded, {metric} is unknown"
        spread = max(before) / min(before)
        bound = max(before) * max(SLACK, math.sqrt(spread))
        if now > bound:
            return f"{metric[:-2]} is {now * 1000:.1f} ms, and was {min(before) * 1000:.1f} to {max(before) * 1000:.1f} ms before"
    sent, failed = sent_and_failed([window])
    before_sent, before_failed = sent_and_failed(baseline)
    if sent and failed / sent > before_failed / max(1, before_sent) + ERRORS_MORE:
        return f"{failed} of {sent} requests failed"
    return ""
