"""Where the load is going: seasonal-naive with quantiles, and a trend only where the history shows one.

With weeks of history nothing more elaborate is justified: the forecast of an hour is the same hour of the last season, grown by the trend, and its
interval is what such forecasts missed by in the past. Source: Hyndman & Athanasopoulos, "Forecasting: Principles and Practice" (3rd ed.), 5.2, 5.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite, log
from statistics import median

from perfloop.model.base import Estimate
from perfloop.model.capacity import Forecast, ForecastPoint

HOUR_S, DAY_S, WEEK_S = 3600.0, 86_400.0, 604_800.0
POINTS_MAX = 50_000
QUANTILES = (0.05, 0.95)
TREND_SEASONS_MIN = 4


def forecast(history: Sequence[tuple[float, float]], horizon_s: float, step_s: float = HOUR_S, source: str = "") -> Forecast:
    """A forecast of (seconds, requests/s) for ``horizon_s`` beyond the history, in steps; or a note why there is none.

    The season is a week where two weeks are known, a day where two days are; else the level stays as it is. A trend is fitted only over four seasons or more.
    """
    series = _regular(history, step_s)
    if len(series) < 3:
        return Forecast(source=source, note=f"{len(series)} points of history; at least 3 are needed")
    span = len(series) * step_s
    season_s = WEEK_S if span >= 2 * WEEK_S else DAY_S if span >= 2 * DAY_S else 0.0
    season = int(season_s / step_s) if season_s else 1
    trend = _trend(series, season, step_s) if span / (season * step_s) >= TREND_SEASONS_MIN else None
    grown = trend.value if trend is not None and trend.low is not None and trend.high is not None and (trend.low > 0 or trend.high < 0) else 0.0
    misses = _misses(series, season, grown, step_s)
    start = history[-1][0]
    points = []
    for k in range(1, min(int(horizon_s / step_s), POINTS_MAX) + 1):
        back = series[len(series) - season + (k - 1) % season]
        seasons = 1 + (k - 1) // season
        middle = back * exp(grown * seasons * season * step_s)
        spread = seasons**0.5  # the misses of further seasons add up like a walk
        low, high = (middle * exp(_quantile(misses, q) * spread) for q in QUANTILES)
        points.append(ForecastPoint(at_s=start + k * step_s, low_per_s=low, middle_per_s=middle, high_per_s=high))
    note = "" if season_s else "no season could be seen: less than two days of history"
    if trend is not None and not grown:
        note = "; ".join(filter(None, (note, "no trend: its interval contains none")))
    elif trend is None:
        note = "; ".join(filter(None, (note, "too little history for a trend")))
    return Forecast(source=source, season_s=season_s, growth_per_month=_per_month(trend), points=tuple(points), note=note, history=tuple(history[-2000:]))


def grow(peak_per_s: float, factor: float, months: float, step_s: float = DAY_S) -> Forecast:
    """Given numbers: the peak grows by ``factor`` within so many months, evenly on a log scale. No interval: nothing was measured."""
    count = max(1, min(int(months * 30.4 * DAY_S / step_s), POINTS_MAX))
    points = []
    for k in range(1, count + 1):
        level = peak_per_s * factor ** (k / count)
        points.append(ForecastPoint(at_s=k * step_s, low_per_s=level, middle_per_s=level, high_per_s=level))
    growth = Estimate(value=factor ** (1 / months) - 1, unit="per month", source="given")
    return Forecast(source=f"given: × {factor:g} in {months:g} months", growth_per_month=growth, points=tuple(points), note="given, not measured: no interval")


def reached_s(found: Forecast, rate_per_s: float) -> tuple[float | None, float | None, float | None]:
    """When the forecast first reaches a rate: by its upper, middle and lower course; None where it does not within the horizon."""
    first, middle, last = (
        next((point.at_s for point in found.points if getattr(point, name) >= rate_per_s), None) for name in ("high_per_s", "middle_per_s", "low_per_s")
    )
    return first, middle, last


def _regular(history: Sequence[tuple[float, float]], step_s: float) -> list[float]:
    """Means per step; a gap keeps the value of a season (day) before, or the last one."""
    cells: dict[int, list[float]] = {}
    for at, rate in list(history)[:POINTS_MAX]:
        if isfinite(at) and isfinite(rate) and rate >= 0:
            cells.setdefault(int(at // step_s), []).append(rate)
    if not cells:
        return []
    first, last = min(cells), max(cells)
    if last - first > POINTS_MAX:
        return []
    day, series = max(1, int(DAY_S / step_s)), []
    for cell in range(first, last + 1):
        if cell in cells:
            series.append(max(1e-9, sum(cells[cell]) / len(cells[cell])))
        else:
            series.append(series[-day] if len(series) >= day else series[-1])
    return series


def _trend(series: Sequence[float], season: int, step_s: float) -> Estimate:
    """Growth of the log level per second: Theil and Sen's median slope between season means, its interval by the spread of the slopes."""
    means = [sum(series[k : k + season]) / season for k in range(len(series) % season, len(series) - season + 1, season)]
    logs = [log(max(1e-9, value)) for value in means]
    slopes = sorted((logs[j] - logs[i]) / ((j - i) * season * step_s) for i in range(len(logs)) for j in range(i + 1, len(logs)))
    n = len(logs)
    half = 1.96 * (n * (n - 1) * (2 * n + 5) / 18) ** 0.5  # of Kendall's S
    low, high = int((len(slopes) - half) / 2), int((len(slopes) + half) / 2)
    inside = low >= 0 and high < len(slopes)
    return Estimate(value=median(slopes), low=slopes[low] if inside else -1.0, high=slopes[high] if inside else 1.0, n=n, unit="log per s", source="seasons")


def _misses(series: Sequence[float], season: int, grown: float, step_s: float) -> list[float]:
    """What the same forecast missed by in the past, as log ratios."""
    step = grown * season * step_s
    return sorted(log(series[k] / series[k - season]) - step for k in range(season, len(series)))


def _quantile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, max(0, int(share * len(values))))] if values else 0.0


def _per_month(trend: Estimate | None) -> Estimate | None:
    if trend is None:
        return None
    month = 30.4 * DAY_S

    def grown(value: float | None) -> float | None:
        return None if value is None or abs(value * month) > 50 else exp(value * month) - 1

    return Estimate(value=exp(trend.value * month) - 1, low=grown(trend.low), high=grown(trend.high), n=trend.n, unit="per month", source="history")
