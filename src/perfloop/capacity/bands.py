"""How sure the scalability law is: bands for what a further measurement at some concurrency would find.

The unit of repetition is the round (one sweep over all levels), never the request. The scatter of the points around the law has three parts: what a
whole round shares (the machine's mood that minute), what a level shares in all rounds (the law does not fit there), and the rest. A parametric bootstrap
draws each part anew, with its size drawn from what so few rounds can say of it, fits the law again, and adds the scatter of one new measurement.
Calibrated on simulated systems: bench/capacity.

Sources: Davison & Hinkley, "Bootstrap Methods and their Application" (1997), 3.8 and 6.3; Searle, Casella & McCulloch, "Variance Components" (1992), 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, log1p
from typing import TYPE_CHECKING

from perfloop.capacity.usl import VALID_BEYOND, alpha_bound, fit_points, law, refusal
from perfloop.model.base import Estimate
from perfloop.model.capacity import Capacity, CurvePoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Groups = NDArray[np.signedinteger]

DRAWS = 600
CURVE_POINTS = 32
_STEPS = 40
#: a band wider than a factor of this on either side says nothing, and is not given
FACTOR_MAX = 2.0


@dataclass(frozen=True)
class Scatter:
    """Sums of squares and their degrees of freedom on the log scale; a part that cannot be told from the rest has 0 degrees."""

    rest: tuple[float, float]
    rounds: tuple[float, float] = (0.0, 0.0)
    levels: tuple[float, float] = (0.0, 0.0)


def bands(
    points: Sequence[tuple[float, float]], rounds: Sequence[int] | None, at: Sequence[float], confidence: float = 0.9, draws: int = DRAWS, seed: int = 1
) -> tuple[Estimate | None, ...]:
    """For each concurrency in ``at`` the band in which one more measured throughput falls with this confidence; None where the data say nothing.

    ``rounds`` names the sweep of each point; without it every point stands for itself. Beyond 1.5 times the largest measured concurrency the answer is None.
    """
    import numpy as np

    found = None if refusal(points) else fit_points(points, "log")
    if found is None:
        return (None,) * len(at)
    n, x = (np.asarray(column, dtype=float) for column in zip(*points, strict=True))
    round_of = np.unique(np.asarray(rounds if rounds is not None else range(len(points))), return_inverse=True)[1]
    level_of = np.unique(np.round(n, 6), return_inverse=True)[1]
    fitted = np.log(np.asarray([law(found.parameters, value) for value in n]))
    parts = scatter(np.log(x) - fitted, round_of, level_of, found.degrees)
    generator = np.random.default_rng(seed)
    rest, shared, misfit = _sizes(parts, generator, draws, len(set(level_of)), len(set(round_of)))
    drawn = (
        fitted
        + rest[:, None] * generator.standard_normal((draws, len(n)))
        + shared[:, None] * generator.standard_normal((draws, int(round_of.max()) + 1))[:, round_of]
        + misfit[:, None] * generator.standard_normal((draws, int(level_of.max()) + 1))[:, level_of]
    )
    start = np.array([found.parameters[0], found.parameters[1], log(found.parameters[2])])
    fits = refit(start, n, drawn)
    new = np.sqrt(rest**2 + shared**2 + misfit**2) * generator.standard_normal(draws)
    return tuple(
        _band(fits, new, where, law(found.parameters, where), len(set(round_of)), confidence) if 0 < where <= VALID_BEYOND * n.max() else None for where in at
    )


def with_bands(found: Capacity, rounds: Sequence[int] | None, confidence: float = 0.9) -> Capacity:
    """The fitted law with its curve: ``CURVE_POINTS`` concurrencies from the smallest measured one to the law's reach, where the band says something."""
    if found.alpha is None or found.valid_up_to is None or (rounds is not None and len(rounds) != len(found.points)):
        return found
    low = min(n for n, _ in found.points)
    at = [low * (found.valid_up_to / low) ** (step / (CURVE_POINTS - 1)) for step in range(CURVE_POINTS)]
    at[-1] = found.valid_up_to
    curve = tuple(CurvePoint(concurrency=n, throughput=band) for n, band in zip(at, bands(found.points, rounds, at, confidence), strict=True) if band)
    changed: Capacity = found.with_(rounds=tuple(rounds or ()), curve=curve)
    return changed


def scatter(residuals: Array, round_of: Groups, level_of: Groups, degrees: int) -> Scatter:
    """Residuals in their parts. Rounds count where there are two or more that hold several points each, levels where rounds repeat them."""
    import numpy as np

    whole = float(residuals @ residuals)
    count, rounds, levels = len(residuals), int(round_of.max()) + 1, int(level_of.max()) + 1
    if rounds < 2 or rounds > count // 3:
        return Scatter((whole, degrees))
    left, between_rounds = _taken_out(residuals, round_of, rounds)
    if levels < 5 or count < 1.8 * levels:
        return Scatter((max(whole - between_rounds, 1e-18), max(1, degrees - rounds + 1)), (between_rounds, rounds - 1))
    left, between_levels = _taken_out(left, level_of, levels)
    rest = float(np.sum(left**2))
    return Scatter((max(rest, 1e-18), max(1, count - rounds - levels + 1)), (between_rounds, rounds - 1), (between_levels, max(1, levels - 3)))


def _taken_out(values: Array, group: Groups, groups: int) -> tuple[Array, float]:
    """Values without the mean of their group, and the sum of squares of those means."""
    import numpy as np

    sizes = np.maximum(1, np.bincount(group, minlength=groups))
    means = np.bincount(group, weights=values, minlength=groups) / sizes
    return values - means[group], float(np.sum(sizes * means**2))


def _sizes(parts: Scatter, generator: np.random.Generator, draws: int, levels: int, rounds: int) -> tuple[Array, Array, Array]:
    """Standard deviations of the three parts, drawn from what their degrees of freedom can say."""
    import numpy as np

    rest = parts.rest[0] / generator.chisquare(parts.rest[1], draws)
    level = parts.rest[0] / parts.rest[1]
    shared = np.full(draws, max(0.0, parts.rounds[0] / parts.rounds[1] - level) / max(1, levels)) if parts.rounds[1] else np.zeros(draws)
    misfit = np.full(draws, max(0.0, parts.levels[0] / parts.levels[1] - level) / max(1, rounds)) if parts.levels[1] else np.zeros(draws)
    return np.sqrt(rest), np.sqrt(np.minimum(shared, 1.0)), np.sqrt(np.minimum(misfit, 1.0))


def refit(start: Array, n: Array, logs: Array) -> Array:
    """(α, β, log γ) of many data sets (rows of ``logs``) with the same concurrencies: damped Gauss-Newton with the bounds of the law."""
    import numpy as np

    now = np.tile(start, (len(logs), 1))
    low, high = alpha_bound(float(n.max()))
    damping = np.full(len(logs), 1e-3)
    residuals, jacobian = _model(now, n, logs)
    cost = np.sum(residuals**2, axis=1)
    for _ in range(_STEPS):
        normal = np.einsum("bni,bnj->bij", jacobian, jacobian)
        pull = -np.einsum("bni,bn->bi", jacobian, residuals)
        held = (now[:, 1] <= 0) & (pull[:, 1] <= 0)  # β stands at its bound and would leave
        normal[held, 1, :] = normal[held, :, 1] = 0.0
        pull[held, 1] = 0.0
        diagonal = np.einsum("bii->bi", normal).copy()
        diagonal[held, 1] = 1.0
        normal[:, [0, 1, 2], [0, 1, 2]] = diagonal * (1 + damping[:, None]) + 1e-18
        tried = now + np.linalg.solve(normal, pull[:, :, None])[:, :, 0]
        tried[:, 0], tried[:, 1] = np.clip(tried[:, 0], low, high), np.maximum(0.0, tried[:, 1])
        residuals_tried, jacobian_tried = _model(tried, n, logs)
        cost_tried = np.sum(residuals_tried**2, axis=1)
        better = cost_tried <= cost
        gained = float(np.max(np.where(better, cost - cost_tried, 0.0) / np.maximum(cost, 1e-30)))
        now[better], residuals[better], jacobian[better], cost[better] = tried[better], residuals_tried[better], jacobian_tried[better], cost_tried[better]
        damping = np.clip(np.where(better, damping / 5, damping * 5), 1e-9, 1e9)
        if gained < 1e-9 and bool(np.all(better | (damping > 1e6))):
            break
    return now


def _model(parameters: Array, n: Array, logs: Array) -> tuple[Array, Array]:
    import numpy as np

    alpha, beta, log_gamma = (parameters[:, [column]] for column in range(3))
    below = np.maximum(1 + alpha * (n - 1) + beta * n * (n - 1), 1e-9)
    residuals = log_gamma + np.log(n) - np.log(below) - logs
    return residuals, np.stack([-(n - 1) / below, -n * (n - 1) / below, np.ones_like(below)], axis=2)


def _band(fits: Array, new: Array, where: float, value: float, rounds: int, confidence: float) -> Estimate | None:
    import numpy as np

    below = np.maximum(1 + fits[:, 0] * (where - 1) + fits[:, 1] * where * (where - 1), 1e-9)
    logs = fits[:, 2] + log(where) - np.log(below) + new
    low, high = np.quantile(logs, [0.5 - confidence / 2, 0.5 + confidence / 2])
    if high - low > 2 * log1p(FACTOR_MAX - 1):
        return None
    return Estimate(value=value, low=exp(low), high=exp(high), n=rounds, unit="1/s", confidence=confidence, source="bootstrap over rounds")
