"""The few marks that our charts are made of; every text is escaped, colours are classes of the page's style sheet."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, floor, log10

from markupsafe import Markup, escape


def element(tag: str, content: Markup | str = "", **attributes: object) -> Markup:
    """One element; ``class_`` becomes ``class``, other underscores become hyphens; floats are rounded to a tenth."""
    pairs = []
    for key, value in attributes.items():
        name = "class" if key == "class_" else key.replace("_", "-")
        text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        pairs.append(Markup(' {}="{}"').format(name, text))
    return Markup("<{0}{1}>{2}</{0}>").format(tag, Markup("").join(pairs), content)


def joined(parts: Iterable[Markup]) -> Markup:
    """Elements one after another."""
    return Markup("").join(parts)


def text(x: float, y: float, content: str, anchor: str = "middle", class_: str = "tick") -> Markup:
    """A label."""
    return element("text", escape(content), x=x, y=y, text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str, close: bool = False) -> Markup:
    """A polyline, or an area where it is closed."""
    steps = " ".join(f"{'M' if number == 0 else 'L'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(points))
    return element("path", d=steps + ("Z" if close else ""), class_=class_)


def chart(width: int, height: int, label: str, content: Markup) -> Markup:
    """A drawing that scales with the page and says in words what it shows."""
    return element("svg", element("title", escape(label)) + content, viewBox=f"0 0 {width} {height}", role="img", class_="chart")


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers of a logarithmic axis within its ends: decades, and 2 and 5 of each where there are few."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = (1, 2, 5) if log10(high / low) < 2.2 else (1, 3) if log10(high / low) < 4 else (1,)
    return [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
