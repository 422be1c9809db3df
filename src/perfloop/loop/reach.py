"""Measures how far a service goes: gently first (at most 40 % of what it is thought to do), then, where that is allowed, to the end."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence

from perfloop.capacity import bursts as worked_off
from perfloop.capacity import littles
from perfloop.capacity.demands import in_order
from perfloop.load.merge import merge_steps
from perfloop.loop import bursts, counters
from perfloop.loop.look import access
from perfloop.loop.measure import refuse_broken
from perfloop.loop.prepare import Session
from perfloop.loop.resources import Reach, Seen, configured_pool, demands_of, through_origin
from perfloop.model.capacity import Demand, LoadPoint
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.run import Window
from perfloop.observe.runner import Observer
from perfloop.stats.histogram import Histogram

GENTLE_SHARE = 0.4
SHARES = (0.1, 0.2, 0.3, 0.4)
CLIMB_START_PER_S, CLIMB_FACTOR, CLIMB_S, CLIMB_STEPS = 4.0, 2.0, 1.5, 14
CLIMB_USED = 0.12  # of a resource: enough to extrapolate to where 40 % is
RESTARTS = 2  # of the sweep, with a better idea of the end
LATENCY_FULL = 2.0  # of the least mean: what was thought gentle is not
LATENCY_GROWN = 1.5  # of the mean: something that is not seen fills up
WINDOW_S, ROUNDS, IDLE_S = 3.0, 3, 3.0
REQUESTS_MIN, REQUESTS_S_MAX = 10, 6.0
LOOKS, LOOK_S = 2, 6.0
LOOK_PROBES = ("stacks", "sockets", "postgres", "process")


def gentle(session: Session, rounds: int = ROUNDS) -> Generator[Event, None, Reach]:
    """Climb until something is used noticeably, look with stacks and connections, then windows at 10, 20, 30 and 40 % of where it seems to end."""
    reach = Reach()
    yield PhaseStarted(phase="idle", detail=f"{IDLE_S:g} s without load", left_s=session.meter.left_s)
    began, before = time.monotonic(), counters.read(session.meter.target, session.meter.pids)
    time.sleep(IDLE_S)
    reach.idle = (before, counters.read(session.meter.target, session.meter.pids), time.monotonic() - began)
    guess = yield from _climb(session, reach)
    for attempt in range(RESTARTS + 1):
        reach.looks = [(yield from _look(session, GENTLE_SHARE * guess, 200 + attempt))]
        ends = _nearest_end(demands_of(session, reach))
        if ends is not None and ends < guess:
            guess = ends
        yield PhaseStarted(phase="gentle", detail=f"windows up to {GENTLE_SHARE:.0%} of about {guess:.0f} requests/s", left_s=session.meter.left_s)
        better = yield from _rounds(session, reach, guess, rounds)
        guess = guess if better is None else better
        if better is None or attempt == RESTARTS:
            break
        reach.seen.clear()
        reach.points.clear()
    yield from _bursts(session, reach, guess)
    reach.looks = []
    for number in range(LOOKS):
        reach.looks.append((yield from _look(session, GENTLE_SHARE * guess, 250 + number)))
    reach.gentle_max_per_s = max(GENTLE_SHARE * guess, *(point.rate_per_s for point in reach.points), *(one.rate_per_s for one in reach.in_bursts))
    session.connections_max = next((p.max_connections for one in reach.looks if one.parts for p in one.parts.postgres if p.max_connections), None)
    reach.demands = in_order(demands_of(session, reach))
    return reach


def _bursts(session: Session, reach: Reach, guess: float) -> Generator[Event, None, None]:
    """Bursts within the latency bound, at the mean rate of the sweep's upper end: what they are worked off with is where it ends."""
    bound_ms = session.config.slo.latency_p95_ms
    bound_s = bound_ms / 1000 if bound_ms is not None else max(bursts.BOUND_S, 10 * (reach.least_s or 0.0))
    yield PhaseStarted(phase="bursts", detail=f"within {1000 * bound_s:.0f} ms, at {GENTLE_SHARE:.0%} on average", left_s=session.meter.left_s)
    reach.bursts, reach.in_bursts = yield from bursts.sent(session.meter, guess, GENTLE_SHARE, bound_s, reach.least_s or 0.0)
    reach.drain = worked_off.drain(reach.bursts)
    if reach.drain.rate is None:
        reach.notes.append(f"the end is predicted by the utilisation law alone: {reach.drain.note}")


def _rounds(session: Session, reach: Reach, guess: float, rounds: int) -> Generator[Event, None, float | None]:
    """The windows of the sweep; a better idea of the end where these show that the guess was off, else None."""
    for number in range(rounds):
        for share in SHARES if number % 2 == 0 else reversed(SHARES):
            seed = 100 + 10 * number + int(10 * share)
            seen = yield from _window(session, f"gentle {share:.0%}", share * guess, window_s(share * guess, WINDOW_S), seed)
            full = _fills(reach, seen)
            if full:  # once may be the machine: the same is sent again
                seen = yield from _window(session, f"gentle {share:.0%}", share * guess, window_s(share * guess, WINDOW_S), seed + 1_000)
                full = _fills(reach, seen)
            reach.seen.append(seen)
            reach.points.append(point_of(seen.window, number))
            if full:
                reach.notes.append(f"at {share * guess:.0f} requests/s latency had grown or answers fell behind: less was sent from then on")
                return 0.5 * share * guess / GENTLE_SHARE
            refuse_broken(seen.window)
        ends = _nearest_end(demands_of(session, reach))
        if number == 0 and ends is not None and not 0.8 <= ends / guess <= 1.25:
            return max(0.25 * guess, min(2 * guess, ends))
    return None


def window_s(rate_per_s: float, least_s: float) -> float:
    """The length of a window that holds some requests also where few a second are sent."""
    return max(least_s, min(REQUESTS_S_MAX, REQUESTS_MIN / max(rate_per_s, 1e-9)))


def _fills(reach: Reach, seen: Seen) -> bool:
    """Whether a window was no gentle one: its mean far above the least that was seen, or answers behind the rate."""
    mean = _mean_s(seen.window)
    reach.least_s = mean if reach.least_s is None else min(reach.least_s, mean)
    behind = seen.window.achieved_per_s is not None and seen.window.achieved_per_s < 0.9 * seen.window.rate_per_s
    return behind or (mean > LATENCY_FULL * reach.least_s and mean - reach.least_s > 0.005)


def _climb(session: Session, reach: Reach) -> Generator[Event, None, float]:
    """A first idea of where it ends: by the resource used most, or by the rate at which latency grew although nothing was seen to fill up."""
    meter = session.meter
    yield PhaseStarted(phase="climb", detail="from a few requests a second until something is used noticeably", left_s=meter.left_s)
    most = meter.config.limits.rate_max_per_s
    rate, grown = min(CLIMB_START_PER_S, most), 0
    for number in range(CLIMB_STEPS):
        seen = yield from _window(session, "climb", rate, max(CLIMB_S, min(4.0, 12 / rate)), number + 1)
        if number == 0:
            refuse_broken(seen.window)
        mean = _mean_s(seen.window)
        reach.least_s = mean if reach.least_s is None or mean <= 0 else min(reach.least_s, mean)
        ends = [found.saturates_at_per_s.value for found in through_origin(session, seen) if found.saturates_at_per_s]
        if ends and rate >= CLIMB_USED * min(ends) and seen.rate_per_s >= 5:
            return min(*ends, most / GENTLE_SHARE)
        if number and ((mean > LATENCY_GROWN * reach.least_s and mean - reach.least_s > 0.002) or seen.rate_per_s < 0.5 * rate):
            grown += 1
            if grown == 2:  # once may be the machine: the same rate is sent again
                reach.notes.append(f"latency grew at {rate:.0f} requests/s while nothing that is counted was used much")
                return rate / 0.5
            continue
        grown = 0
        if rate >= most:
            break
        rate = min(rate * CLIMB_FACTOR, most)
    reach.notes.append(f"nothing was used noticeably up to {rate:.0f} requests/s, where limits.rate_max_per_s ends the climb")
    return rate / GENTLE_SHARE


def _window(session: Session, label: str, rate: float, duration_s: float, seed: int) -> Generator[Event, None, Seen]:
    """One window with the counters around it; one in which the generator was late is repeated once."""
    meter = session.meter
    for attempt in range(2):
        before = counters.read(meter.target, meter.pids)
        window = yield from meter.window(label, max(0.1, rate), duration_s, seed + 10_000 * attempt)
        after = counters.read(meter.target, meter.pids)
        if window.generator_ok:
            break
    return Seen(window, before, after)


def _look(session: Session, rate: float, seed: int) -> Generator[Event, None, Seen]:
    with Observer(session.meter.target, access(session), LOOK_PROBES) as observer:
        observer.wait_ready()
        seen = yield from _window(session, "look", rate, LOOK_S, seed)
        seen.parts = observer.stop()
    return seen


def point_of(window: Window, number: int) -> LoadPoint:
    """One window as a point of the curve, with Little's law checked on it."""
    total = merge_steps("total", window.steps)
    latency = Histogram.from_data(total.latency)
    achieved = window.achieved_per_s if window.achieved_per_s is not None and not window.users else within(window)
    mean = total.latency.sum_s / total.ok if total.ok else None
    checked = littles.check(window) if window.rate_per_s else None
    return LoadPoint(
        round=number,
        rate_per_s=window.rate_per_s,
        achieved_per_s=achieved,
        concurrency=achieved * (mean or 0.0),
        mean_s=mean,
        p50_s=latency.quantile(0.5),
        p95_s=latency.quantile(0.95),
        p99_s=latency.quantile(0.99),
        error_rate=(total.sent - total.ok) / total.sent if total.sent else 0.0,
        ok=window.generator_ok,
        little_ok=checked.ok if checked else True,
        note=checked.note if checked else "",
    )


def within(window: Window) -> float:
    """Answers a second while users were there: those that still come after the end, one for each user, are no throughput."""
    inside = [slot for slot in window.per_second if slot.elapsed_s <= window.duration_s + 0.05]
    if not window.users or not inside:
        return sum(step.ok for step in window.steps) / max(window.duration_s, 1e-9)
    return sum(slot.ok for slot in inside) / inside[-1].elapsed_s


def _nearest_end(found: Sequence[Demand]) -> float | None:
    ends = [item.saturates_at_per_s.value for item in found if item.saturates_at_per_s is not None]
    return min(ends) if ends else None


def _mean_s(window: Window) -> float:
    total = merge_steps("total", window.steps)
    return total.latency.sum_s / total.ok if total.ok else 0.0


def told(reach: Reach) -> Generator[Event, None, None]:
    """The order of saturation, as it is known so far."""
    if reach.drain.rate is not None:
        yield Told(text=f"{reach.drain.rate.source} are worked off at {reach.drain.rate.value:.0f} requests/s")
    for item in reach.demands[:4]:
        if item.saturates_at_per_s is not None:
            end = item.saturates_at_per_s
            span = f" ({end.low:.0f} to {end.high:.0f})" if end.low is not None and end.high is not None else ""
            yield Told(text=f"{item.resource} saturates at {end.value:.0f}{span} requests/s")


__all__ = ["Reach", "configured_pool", "demands_of", "gentle", "point_of", "told"]
