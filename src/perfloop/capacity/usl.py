"""The Universal Scalability Law X(N) = γN / (1 + α(N−1) + βN(N−1)), fitted to measured concurrency and throughput.

α is contention (the share that is serial), β the cost of coherence, γ the throughput of one. The fit is least squares on the log of
throughput, because the error of a measured rate is relative; intervals by the delta method. Where β's interval contains 0 the data
show no peak, and none is named: extrapolated peaks of such fits were 18 to 50 % off on published data.

Sources: N. Gunther, "Guerrilla Capacity Planning" (2007); N. Gunther, P. Puglia, K. Tomasette, "Hadoop superlinear scalability"
(ACM Queue 2015) for α < 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite, sqrt
from typing import TYPE_CHECKING, Literal

from perfloop.model.base import Estimate
from perfloop.model.capacity import Capacity
from perfloop.stats.student import t_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Scale = Literal["log", "absolute"]
POINTS_MIN = 5
SPAN_MIN = 3.0
VALID_BEYOND = 1.5
POINTS_MAX = 10_000
_STEPS_MAX = 200


@dataclass(frozen=True)
class Fit:
    """Parameters (α, β, γ), their standard errors (None where the bound β = 0 holds it), residual degrees of freedom, and the residual spread."""

    parameters: tuple[float, float, float]
    errors: tuple[float, float | None, float]
    degrees: int
    spread: float


def fit(points: Sequence[tuple[float, float]], confidence: float = 0.95, scale: Scale = "log") -> Capacity:
    """The law for these points of (concurrency, requests per second), or a note why there is none. Never a peak outside the data's reach.

    ``scale`` "absolute" is plain least squares, as the published fits used it. ``perfloop.capacity.bands`` adds what a further measurement would find.
    """
    usable = tuple((float(n), float(x)) for n, x in points if isfinite(n) and isfinite(x) and n > 0 and x > 0)[:POINTS_MAX]
    why_not = refusal(usable)
    if why_not:
        return Capacity(points=usable, note=why_not)
    found = fit_points(usable, scale)
    if found is None:
        return Capacity(points=usable, note="no law of this form fits the points")
    alpha, beta, _ = found.parameters
    n = len(usable)
    reach = VALID_BEYOND * max(concurrency for concurrency, _ in usable)
    t = t_quantile(0.5 + confidence / 2, found.degrees)
    estimates = [
        Estimate(
            value=value,
            low=None if error is None else value - t * error,
            high=None if error is None else value + t * error,
            n=n,
            unit=unit,
            confidence=confidence,
            source="measured points",
        )
        for value, error, unit in zip(found.parameters, found.errors, ("", "", "1/s"), strict=True)
    ]
    notes = []
    peak = sqrt((1 - alpha) / beta) if beta > 0 and alpha < 1 else None
    if estimates[1].low is None or estimates[1].low <= 0:
        peak = None
        notes.append(f"the data show no peak; nothing is said beyond {reach:.3g} concurrent requests")
    elif peak is not None and peak > reach:
        notes.append(f"a peak would lie beyond {reach:.3g} concurrent requests, where nothing was measured")
        peak = None
    if estimates[0].high is not None and estimates[0].high < 0:
        notes.append("it scales better than linearly (α < 0): look for an effect of caches, or a cost that the first requests pay")
    if found.spread > 0.1:
        notes.append(f"the points scatter by {found.spread:.0%} around the law")
    return Capacity(
        points=usable, alpha=estimates[0], beta=estimates[1], gamma_per_s=estimates[2], peak_concurrency=peak, valid_up_to=reach, note="; ".join(notes)
    )


def throughput_at(capacity: Capacity, concurrency: float) -> float | None:
    """Requests per second that the law says for this concurrency; None without a law, and beyond the reach of the data."""
    if not (capacity.alpha and capacity.beta and capacity.gamma_per_s and capacity.valid_up_to) or not 0 < concurrency <= capacity.valid_up_to:
        return None
    return law((capacity.alpha.value, capacity.beta.value, capacity.gamma_per_s.value), concurrency)


def concurrency_for(capacity: Capacity, rate_per_s: float) -> float | None:
    """The concurrency at which the law gives this throughput, before its peak; None where it never does or nothing is known.

    The smaller root of βN² + (α − β − γ/X)N + (1 − α) = 0, which is the law itself turned around.
    """
    if not (capacity.alpha and capacity.beta and capacity.gamma_per_s and capacity.valid_up_to) or rate_per_s <= 0:
        return None
    alpha, beta, gamma = capacity.alpha.value, capacity.beta.value, capacity.gamma_per_s.value
    slope = gamma / rate_per_s + beta - alpha
    if beta <= 0:
        found = (1 - alpha) / slope if slope > 0 else None
    else:
        root = slope**2 - 4 * beta * (1 - alpha)
        found = None if root < 0 or slope <= 0 else 2 * (1 - alpha) / (slope + sqrt(root))
    return found if found is not None and 0 < found <= capacity.valid_up_to else None


def law(parameters: tuple[float, float, float], concurrency: float) -> float:
    """X(N) for (α, β, γ)."""
    alpha, beta, gamma = parameters
    return gamma * concurrency / (1 + alpha * (concurrency - 1) + beta * concurrency * (concurrency - 1))


def fit_points(points: Sequence[tuple[float, float]], scale: Scale) -> Fit | None:
    """Least squares of the law on log or absolute throughput, β ≥ 0; None where it does not converge. Needs four points or more."""
    import numpy as np

    n, x = (np.asarray(column, dtype=float) for column in zip(*points, strict=True))
    free = _descend(_start(n, x), n, x, scale, beta_free=True)
    beta_free = free is not None and free[1] > 0
    if not beta_free:
        free = _descend(_start(n, x, beta_free=False), n, x, scale, beta_free=False)
    if free is None:
        return None
    residuals, jacobian = _residuals(free, n, x, scale)
    columns = [0, 1, 2] if beta_free else [0, 2]
    degrees = len(points) - len(columns)
    if degrees < 1:
        return None
    spread = float(residuals @ residuals) / degrees
    used = jacobian[:, columns]
    try:
        covariance = np.linalg.inv(used.T @ used) * spread
    except np.linalg.LinAlgError:
        return None
    errors = dict(zip(columns, np.sqrt(np.maximum(0, np.diag(covariance))), strict=True))
    gamma = exp(free[2])
    relative = sqrt(spread) if scale == "log" else sqrt(spread) / float(x.mean())
    return Fit(
        (float(free[0]), float(free[1]), gamma), (float(errors[0]), float(errors[1]) if 1 in errors else None, gamma * float(errors[2])), degrees, relative
    )


def refusal(points: Sequence[tuple[float, float]]) -> str:
    """Why these points bear no law; empty where they may."""
    distinct = {round(n, 6) for n, _ in points}
    if len(distinct) < POINTS_MIN:
        return f"{len(distinct)} points of different concurrency; at least {POINTS_MIN} are needed for a law"
    if max(distinct) < SPAN_MIN * min(distinct):
        return f"the points span {min(distinct):.3g} to {max(distinct):.3g} concurrent requests; a factor of {SPAN_MIN:g} is needed for a law"
    return ""


def _start(n: Array, x: Array, beta_free: bool = True) -> Array:
    """The law is linear in N/X: ordinary least squares with relative weights, as (α, β, log γ)."""
    import numpy as np

    columns = [np.ones_like(n), n - 1, n * (n - 1)][: 3 if beta_free else 2]
    weight = x / n
    solved = np.linalg.lstsq(np.stack(columns, axis=1) * weight[:, None], np.ones_like(n), rcond=None)[0]
    if solved[0] <= 0:
        return np.array([0.01, 0.0, np.log((x / n).max())])
    beta = max(0.0, solved[2] / solved[0]) if beta_free else 0.0
    return np.array([_alpha_in(solved[1] / solved[0], n), beta, -np.log(solved[0])])


def _alpha_in(alpha: float, n: Array) -> float:
    """α between superlinear, with the law still positive at every point, and 1 (nothing runs in parallel) with a margin."""
    low, high = alpha_bound(float(n.max()))
    return float(min(high, max(alpha, low)))


def alpha_bound(concurrency_max: float) -> tuple[float, float]:
    """The values that α may take: below, the law would not be positive at every point."""
    return -0.9 / max(1.0, concurrency_max - 1), 5.0


def _residuals(parameters: Array, n: Array, x: Array, scale: Scale) -> tuple[Array, Array]:
    """Residuals and their derivatives by (α, β, log γ)."""
    import numpy as np

    alpha, beta, log_gamma = parameters
    below = 1 + alpha * (n - 1) + beta * n * (n - 1)
    modelled = log_gamma + np.log(n) - np.log(np.maximum(below, 1e-12))
    derivative = np.stack([-(n - 1) / below, -n * (n - 1) / below, np.ones_like(n)], axis=1)
    if scale == "log":
        return modelled - np.log(x), derivative
    value = np.exp(modelled)
    return value - x, derivative * value[:, None]


def _descend(start: Array, n: Array, x: Array, scale: Scale, beta_free: bool) -> Array | None:
    """Levenberg-Marquardt with β ≥ 0 and α in its bounds, by projection of each step."""
    import numpy as np

    columns = [0, 1, 2] if beta_free else [0, 2]
    now, damping = start.copy(), 1e-3
    residuals, jacobian = _residuals(now, n, x, scale)
    cost = float(residuals @ residuals)
    for _ in range(_STEPS_MAX):
        used = jacobian[:, columns]
        normal = used.T @ used
        step = np.zeros(3)
        step[columns] = np.linalg.lstsq(normal + damping * np.diag(np.diag(normal) + 1e-30), -used.T @ residuals, rcond=None)[0]
        tried = now + step
        tried[0], tried[1] = _alpha_in(tried[0], n), max(0.0, tried[1])
        residuals_tried, jacobian_tried = _residuals(tried, n, x, scale)
        cost_tried = float(residuals_tried @ residuals_tried)
        if not np.isfinite(cost_tried) or cost_tried > cost:
            damping *= 5
            if damping > 1e12:
                return now
            continue
        done = cost - cost_tried <= 1e-15 * cost and bool(np.all(np.abs(tried - now) <= 1e-10 * (1e-6 + np.abs(now))))
        now, residuals, jacobian, cost, damping = tried, residuals_tried, jacobian_tried, cost_tried, max(damping / 5, 1e-12)
        if done or cost == 0:
            break
    return now if np.isfinite(cost) else None
