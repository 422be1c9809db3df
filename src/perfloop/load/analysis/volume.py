"""Volume: how the cost of a request grows with the size of the data, as cost = a + b·size^k, with the interval of k."""

from __future__ import annotations

from collections.abc import Sequence

from perfloop.load.analysis.seconds import shown
from perfloop.model.base import Estimate
from perfloop.model.loadtest import Level, LoadKind, LoadTest, Measure
from perfloop.stats.power import power_fit

EXPONENT_MAX = 1.2
SPAN_MIN = 4.0
FLAT_FACTOR = 1.3


def judge_volume(levels: Sequence[Level], exponent_max: float = EXPONENT_MAX) -> LoadTest:
    """The fitted exponent of the mean latency over the sizes; needs four points of three sizes that span a factor of four. No, where its whole interval is above ``exponent_max``."""
    points = [(level.x, level.mean_s) for level in levels if level.mean_s]
    sizes = sorted({size for size, _ in points})
    if len(points) < 4 or len(sizes) < 3 or sizes[-1] < SPAN_MIN * sizes[0]:
        why = f"{len(points)} measurements of {len(sizes)} sizes; four of three sizes that span a factor of {SPAN_MIN:g} are needed"
        return LoadTest(kind=LoadKind.VOLUME, answer=f"no exponent: {why}", levels=tuple(levels))
    fit = power_fit([size for size, _ in points], [mean for _, mean in points])
    smallest, largest = (_mean([mean for size, mean in points if size == edge]) for edge in (sizes[0], sizes[-1]))
    grew = largest / smallest
    flat = fit.flat or grew < 1 + 0.5 * (FLAT_FACTOR - 1)
    exponent = Estimate(value=fit.exponent, low=fit.low, high=fit.high, n=len(points), unit="exponent", source="cost = a + b·size^k")
    ok = True if flat or fit.high <= exponent_max else False if fit.low > exponent_max else None
    measures = [
        Measure(name="growth of the mean latency", value=Estimate(value=grew, n=len(points), unit="x"), note=f"from size {sizes[0]:g} to {sizes[-1]:g}"),
        Measure(
            name="exponent", value=None if flat else exponent, bound=f"≤ {exponent_max:g}", ok=ok, note="the cost does not depend on the size" if flat else ""
        ),
    ]
    if fit.constant > 0 and not flat:
        measures.append(Measure(name="constant part", value=Estimate(value=fit.constant, n=len(points), unit="s")))
    if flat:
        answer = f"the cost does not grow with the data: × {grew:.2f} from size {sizes[0]:g} to {sizes[-1]:g}"
    else:
        answer = (
            f"the cost grows as size^{fit.exponent:.2f} ({fit.low:.2f} to {fit.high:.2f}): {shown(smallest)} at {sizes[0]:g}, {shown(largest)} at {sizes[-1]:g}"
        )
        if ok is None:
            answer += f"; whether that is above {exponent_max:g} needs more sizes or repeats"
    return LoadTest(kind=LoadKind.VOLUME, ok=ok, answer=answer, measures=tuple(measures), levels=tuple(levels))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
