"""Who is out of a race of several candidates: best-arm elimination on blocks of rounds, each with one round of the default and one of every candidate.

Only chooses which candidate is worth a proof; it claims nothing. What it chose is proved on rounds that had no part in the choice, because the best of
several noisy figures is too good (the winner's curse).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log, sqrt

from perfloop.stats.sequential import RESOLUTION
from perfloop.stats.student import mean_sd, t_quantile

#: one-sided: a candidate that is as good as the leader is thrown out in one of ten looks
CONFIDENCE = 0.9
#: a single round so much worse than the default's is believed
WORSE_AT_ONCE = 1.1
#: after every so many blocks the worse half goes, so that the race ends within its budget
HALVE_EVERY = 2
HOPELESS_FROM = 3


def leader(logs: Mapping[str, Sequence[float]]) -> str:
    """The candidate with the lowest mean log ratio to the default."""
    return min(logs, key=lambda name: mean_sd(tuple(logs[name]))[0])


def out(logs: Mapping[str, Sequence[float]], effect_min: float, noise: float = 0.0) -> dict[str, str]:
    """Who goes after this block, and why. ``logs``: of each candidate still in the race its log ratios to the default, one a block.

    ``noise``: the deviation of the logs of rounds without any candidate; one block throws out only what is worse by more than that explains.
    """
    if not logs:
        return {}
    first = leader(logs)
    blocks = len(logs[first])
    gone = {name: reason for name, values in logs.items() if (reason := _why(values, logs[first], name == first, effect_min, noise))}
    left = sorted((name for name in logs if name not in gone), key=lambda name: mean_sd(tuple(logs[name]))[0])
    if blocks % HALVE_EVERY == 0:
        for name in left[(len(left) + 1) // 2 :]:
            gone[name] = f"others were better: {_said(logs[name])} of the default, the best {_said(logs[first])}"
    return gone


def _why(values: Sequence[float], best: Sequence[float], is_best: bool, effect_min: float, noise: float) -> str:
    mean = mean_sd(tuple(values))[0]
    if len(values) >= HOPELESS_FROM and mean > log(1 - effect_min):
        return f"no improvement of {effect_min:.0%}: {_said(values)} of the default"
    if mean > max(log(WORSE_AT_ONCE), 2 * sqrt(2 / len(values)) * noise):
        return f"worse than the default: {_said(values)} of it"
    if is_best or len(values) < 2:
        return ""
    behind, deviation = mean_sd(tuple(a - b for a, b in zip(values, best, strict=True)))
    if behind > t_quantile(CONFIDENCE, len(values) - 1) * max(deviation, RESOLUTION) / sqrt(len(values)):
        return f"another was better: {_said(values)} of the default, the best {_said(best)}"
    return ""


def _said(values: Sequence[float]) -> str:
    return f"× {exp(mean_sd(tuple(values))[0]):.2f}"
