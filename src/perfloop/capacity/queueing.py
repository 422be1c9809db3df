"""Queues with a known answer: M/M/c, M/G/1, the closed network of mean value analysis, and the bounds that need no assumption.

They hold where arrivals are Poisson (open) and the service times do not depend on the load; ``agrees`` says whether a measured percentile bears that out.
Sources: Gross & Harris, "Fundamentals of Queueing Theory", 2.3, 4.2, 5.1; Reiser & Lavenberg, "Mean-Value Analysis of Closed Multichain Queuing
Networks" (JACM 1980); Lazowska et al., "Quantitative System Performance" (1984), 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log

CENTRES_MAX, CUSTOMERS_MAX, SERVERS_MAX = 200, 100_000, 10_000


@dataclass(frozen=True)
class Queue:
    """An open queue in its steady state; all times in seconds, all numbers means. ``wait_s`` is inf where the load is more than the servers can do."""

    utilisation: float
    p_empty: float
    p_wait: float
    waiting: float  # Lq
    wait_s: float  # Wq
    inside: float  # L
    response_s: float  # W


def mmc(rate_per_s: float, service_s: float, servers: int) -> Queue:
    """M/M/c by Erlang's C: Poisson arrivals, exponential service times, ``servers`` equal servers, one queue."""
    if not (rate_per_s >= 0 and service_s > 0 and 1 <= servers <= SERVERS_MAX):
        raise ValueError("M/M/c needs a rate of 0 or more, a service time above 0 and 1 to 10,000 servers")
    offered = rate_per_s * service_s
    utilisation = offered / servers
    if utilisation >= 1:
        return Queue(utilisation, 0.0, 1.0, inf, inf, inf, inf)
    term = whole = 1.0  # the sum of offered^k / k!, k < servers, kept relative to its last term so that it cannot overflow
    for k in range(1, servers):
        term *= offered / k
        whole += term
        if whole > 1e200:
            term, whole = term / whole, 1.0
    last = term * offered / servers / (1 - utilisation)
    p_wait = last / (whole + last)
    wait_s = p_wait * service_s / (servers * (1 - utilisation))
    p_empty = _p_empty(offered, servers)
    return Queue(utilisation, p_empty, p_wait, rate_per_s * wait_s, wait_s, rate_per_s * (wait_s + service_s), wait_s + service_s)


def _p_empty(offered: float, servers: int) -> float:
    """P0 of M/M/c; 0 where it is smaller than a float can tell."""
    if offered == 0:
        return 1.0
    logs, at = [0.0], 0.0
    for k in range(1, servers):
        at += log(offered / k)
        logs.append(at)
    logs.append(at + log(offered / servers) - log(1 - offered / servers))
    top = max(logs)
    return exp(-top) / sum(exp(value - top) for value in logs)


def mmc_quantile_s(rate_per_s: float, service_s: float, servers: int, share: float) -> float:
    """The time in the system (first come, first served) that this share of requests does not exceed; inf where there is no steady state."""
    queue = mmc(rate_per_s, service_s, servers)
    if queue.utilisation >= 1:
        return inf
    low, high = 0.0, service_s
    while _mmc_tail(queue, service_s, servers, high) > 1 - share:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _mmc_tail(queue, service_s, servers, middle) > 1 - share else (low, middle)
    return high


def _mmc_tail(queue: Queue, service_s: float, servers: int, t: float) -> float:
    """P(response > t): exponential service, plus an exponential wait for those that wait."""
    service, drain = 1 / service_s, servers * (1 - queue.utilisation) / service_s
    if abs(drain - service) < 1e-9 * service:
        return exp(-service * t) * (1 + queue.p_wait * service * t)
    waited = (drain * exp(-service * t) - service * exp(-drain * t)) / (drain - service)
    return (1 - queue.p_wait) * exp(-service * t) + queue.p_wait * waited


def mg1(rate_per_s: float, service_s: float, service_cv: float) -> Queue:
    """M/G/1 by Pollaczek and Khinchine: Poisson arrivals, one server, service times with this coefficient of variation."""
    if not (rate_per_s >= 0 and service_s > 0 and service_cv >= 0):
        raise ValueError("M/G/1 needs a rate of 0 or more, a service time above 0 and a coefficient of variation of 0 or more")
    utilisation = rate_per_s * service_s
    if utilisation >= 1:
        return Queue(utilisation, 0.0, 1.0, inf, inf, inf, inf)
    wait_s = utilisation * service_s * (1 + service_cv**2) / (2 * (1 - utilisation))
    return Queue(utilisation, 1 - utilisation, utilisation, rate_per_s * wait_s, wait_s, rate_per_s * (wait_s + service_s), wait_s + service_s)


@dataclass(frozen=True)
class Closed:
    """A closed network with ``customers``: throughput, response time without thinking, and the mean number at each centre."""

    customers: int
    throughput_per_s: float
    response_s: float
    inside: tuple[float, ...]


def mva(demands_s: Sequence[float], customers: int, think_s: float = 0.0, servers: Sequence[int] | None = None) -> tuple[Closed, ...]:
    """Exact mean value analysis for 1 to ``customers`` customers; a centre with several servers by its marginal probabilities."""
    count = [1] * len(demands_s) if servers is None else list(servers)
    if not demands_s or len(demands_s) > CENTRES_MAX or not 1 <= customers <= CUSTOMERS_MAX or think_s < 0 or min(demands_s) < 0 or min(count) < 1:
        raise ValueError("MVA needs 1 to 200 demands of 0 or more, 1 to 100,000 customers and servers of 1 or more")
    inside = [0.0] * len(demands_s)
    idle = [[1.0] + [0.0] * (c - 1) for c in count]  # P(j at the centre) for j < servers
    found = []
    for n in range(1, customers + 1):
        times = [
            demand / c * (1 + inside[k] + sum((c - 1 - j) * p for j, p in enumerate(idle[k][: c - 1])))
            for k, (demand, c) in enumerate(zip(demands_s, count, strict=True))
        ]
        rate = n / (think_s + sum(times)) if think_s + sum(times) > 0 else inf
        inside = [rate * time for time in times]
        for k, (demand, c) in enumerate(zip(demands_s, count, strict=True)):
            if c > 1:
                moved = [rate * demand / j * idle[k][j - 1] for j in range(1, c)]
                busy = rate * demand
                first = max(0.0, 1 - (busy + sum((c - j) * p for j, p in enumerate(moved, 1))) / c)
                idle[k] = [first, *moved]
        found.append(Closed(n, rate, sum(times), tuple(inside)))
    return tuple(found)


@dataclass(frozen=True)
class Bounds:
    """What no closed system of these demands can exceed: throughput, the least response time, and the number of customers where the two meet."""

    throughput_max_per_s: float
    response_min_s: float
    knee: float


def bounds(demands_s: Sequence[float], think_s: float = 0.0) -> Bounds:
    """Asymptotic bounds: 1/D_max, ΣD, and N* = (ΣD + Z)/D_max."""
    largest, whole = max(demands_s), sum(demands_s)
    return Bounds(1 / largest if largest else inf, whole, (whole + think_s) / largest if largest else inf)


def agrees(modelled_s: float, measured_s: float, low_s: float | None, high_s: float | None, tolerance: float = 0.25) -> bool:
    """Whether a modelled percentile is borne out: within the measured interval widened by the tolerance."""
    return (low_s if low_s is not None else measured_s) * (1 - tolerance) <= modelled_s <= (high_s if high_s is not None else measured_s) * (1 + tolerance)
