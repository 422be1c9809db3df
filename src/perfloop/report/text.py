"""Numbers as people read them: three significant digits, units, intervals, ratio and absolute together."""

from __future__ import annotations

import re

from perfloop.model.base import Estimate

MINUS = "−"
UNKNOWN = "–"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_UNIT = re.compile(r"(?<=\d) (?=%|(?:ms|µs|s|min)\b)")


def printable(text: str) -> str:
    """The text without control characters, so that a name read from a service can neither move a cursor nor break XML."""
    return _CONTROL.sub("�", text)


def digits(value: float) -> str:
    """Three significant digits without an exponent: ``0.0412``, ``41.2``, ``412``, ``4,120``."""
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    decimals = 1 if size >= 10 else 2 if size >= 1 else 3
    text = f"{value:.{decimals}f}".rstrip("0").rstrip(".")
    return text if text not in ("0", "-0") else f"{value:.1g}"


def seconds(value: float | None) -> str:
    """A time: ``850 µs``, ``41.2 ms``, ``2.1 s``, ``3 min 20 s``, ``23.8 h``; a dash where it is unknown."""
    if value is None:
        return UNKNOWN
    size = abs(value)
    if size >= 7_200:
        return f"{digits(value / 3_600)} h"
    if size >= 120:
        return f"{int(value // 60)} min {value % 60:.0f} s"
    if size >= 1:
        return f"{digits(value)} s"
    if size >= 0.001 or value == 0:
        return f"{digits(value * 1e3)} ms"
    return f"{digits(value * 1e6)} µs"


def seconds_range(low: float, high: float) -> str:
    """Two times with one unit: ``91.4 to 102 ms``."""
    unit, factor = ("s", 1.0) if abs(high) >= 1 else ("ms", 1e3) if abs(high) >= 0.001 else ("µs", 1e6)
    return f"{digits(low * factor)} to {digits(high * factor)} {unit}"


def estimate(value: Estimate | None) -> str:
    """A measured time with its interval: ``96 ms (91 to 102 ms)``."""
    if value is None:
        return UNKNOWN
    span = interval(value)
    return f"{seconds(value.value)} ({span})" if span else seconds(value.value)


def interval(value: Estimate | None) -> str:
    """The interval of a measured time alone, empty where there is none."""
    if value is None or value.low is None or value.high is None:
        return ""
    return seconds_range(value.low, value.high)


def percent(share: float, sign: bool = False) -> str:
    """A share as percent: ``74 %``, with ``sign`` ``+245 %`` or ``−77 %``."""
    value = share * 100
    near_end = 90 <= abs(value) < 100  # −96.4 % and −99.1 % are a factor of four apart
    text = f"{abs(value):,.0f}" if abs(value) >= 10 and not near_end else f"{abs(value):.1f}".removesuffix(".0")
    mark = (MINUS if value < 0 else "+" if value > 0 else "") if sign else (MINUS if value < 0 else "")
    return f"{mark if text != '0' else ''}{text} %"


def tight(text: str) -> str:
    """The text with numbers bound to their units, so that a line never ends between them."""
    return _UNIT.sub("\u00a0", text)


def change(ratio: Estimate | None) -> str:
    """A ratio after/before as a change with its interval: ``−77 % (−81 to −71 %)``."""
    if ratio is None:
        return UNKNOWN
    text = percent(ratio.value - 1, sign=True)
    if ratio.low is None or ratio.high is None:
        return text
    low, high = percent(ratio.low - 1, sign=True), percent(ratio.high - 1, sign=True)
    return f"{text} ({low.removesuffix(' %')} to {high})"


def share(value: Estimate | None) -> str:
    """A share with its interval: ``74 % (70 to 78 %)``."""
    if value is None:
        return UNKNOWN
    if value.low is None or value.high is None:
        return percent(value.value)
    return f"{percent(value.value)} ({percent(value.low).removesuffix(' %')} to {percent(value.high)})"


def rate(value: float | None) -> str:
    """A rate: ``41.2/s``, ``1,204/s``; a dash where it is unknown."""
    return UNKNOWN if value is None else f"{digits(value)}/s"


def counted(count: int, one: str, many: str = "") -> str:
    """``1 change``, ``3 changes``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
