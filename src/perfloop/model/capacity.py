"""How far it goes: what a fitted scalability law says, and where it stops saying anything."""

from __future__ import annotations

from perfloop.model.base import Estimate, Word


class CurvePoint(Word):
    """The law at one concurrency, with the band in which one more measurement would fall."""

    concurrency: float
    throughput: Estimate


class Capacity(Word):
    """A fit of the Universal Scalability Law X(N) = γN / (1 + α(N−1) + βN(N−1)) to measured points of concurrency and throughput.

    ``peak_concurrency`` is None where β's interval contains 0: there is no peak inside the data, and predictions stop at ``valid_up_to``.
    """

    points: tuple[tuple[float, float], ...]  # (concurrency, requests per second)
    alpha: Estimate | None = None
    beta: Estimate | None = None
    gamma_per_s: Estimate | None = None
    peak_concurrency: float | None = None
    valid_up_to: float | None = None
    note: str = ""
    rounds: tuple[int, ...] = ()  # the sweep that each point belongs to; empty where there was one
    curve: tuple[CurvePoint, ...] = ()  # where the band says something
