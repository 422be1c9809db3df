"""The sequential test on simulated pairs: three kinds of noise of the same deviation, looking after each of at most 60 pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bench.table import Row
from perfloop.stats.sequential import Looks
from perfloop.stats.student import t_quantile

CAMPAIGNS, PAIRS, SD = 3000, 60, 0.03
KINDS = ("normal", "t3", "bursty")
SEED = 20261124


def noise(kind: str, campaigns: int, rng: np.random.Generator) -> np.ndarray:
    """Log ratios of pairs without a difference; the deviation of all together is 3 % for each kind."""
    shape = (campaigns, PAIRS)
    if kind == "normal":
        return SD * rng.standard_normal(shape)
    if kind == "t3":
        return SD / math.sqrt(3) * rng.standard_t(3, shape)
    return SD / math.sqrt(0.9 + 0.1 * 25) * np.where(rng.random(shape) < 0.1, 5, 1) * rng.standard_normal(shape)


@dataclass(frozen=True)
class Outcome:
    """Share of campaigns that decided, and the pairs they took (undecided ones: all)."""

    decided: float
    pairs: float


def campaign(data: np.ndarray, looks: Looks) -> Outcome:
    """The product's own test after each pair from the third on."""
    ends = []
    for row in data:
        values = [float(value) for value in row]
        ends.append(next((n for n in range(3, PAIRS + 1) if looks.evidence(values[:n]) >= 1 / (1 - looks.confidence)), None))
    return Outcome(sum(end is not None for end in ends) / len(ends), float(np.mean([end or PAIRS for end in ends])))


def peeking(data: np.ndarray) -> float:
    """What a plain t test at 5 % claims when it is looked at after each pair."""
    n = np.arange(1, PAIRS + 1)
    mean = np.cumsum(data, axis=1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.sqrt((np.cumsum(data**2, axis=1) / n - mean**2) * n / (n - 1))
        t = np.abs(mean) / deviation * np.sqrt(n)
    bounds = np.array([math.inf, math.inf, *(t_quantile(0.975, int(k) - 1) for k in n[2:])])
    return float((t > bounds).any(axis=1).mean())


def rows(campaigns: int = CAMPAIGNS) -> list[Row]:
    """False claims, and how fast 5 % and 2 % are found."""
    found: list[Row] = []
    for kind in KINDS:
        data = noise(kind, campaigns, np.random.default_rng([SEED, KINDS.index(kind)]))
        looks = Looks(PAIRS)
        none, two, five = (campaign(data - effect, looks) for effect in (0.0, 0.02, 0.05))
        plain = peeking(data)
        n = f"n = {campaigns}"
        found += [
            Row(
                f"sequential test, {kind}: false claims",
                round(100 * none.decided, 2),
                "%",
                "<= 5",
                none.decided <= 0.05,
                "t test at p < .05, peeking",
                round(100 * plain, 2),
                round(none.decided / plain, 3),
                n,
            ),
            Row(
                f"sequential test, {kind}: pairs until 5 % is found",
                round(five.pairs, 1),
                "pairs",
                "<= 9",
                five.pairs <= 9,
                why=f"power {five.decided:.3f}, {n}",
            ),
        ]
        bound = kind == "bursty"
        found.append(
            Row(
                f"sequential test, {kind}: pairs until 2 % is found",
                round(two.pairs, 1),
                "pairs",
                "<= 21, power >= .98" if bound else "(reported)",
                (two.pairs <= 21 and two.decided >= 0.98) if bound else True,
                why=f"power {two.decided:.3f}, {n}",
            )
        )
    return found
