"""What changed between two flame graphs, per request, with intervals: a difference that the samples do not show is no difference.

Sampled counts are taken as Poisson: the variance of the seconds per request of a path is seconds² / samples. A rate of sampling that differs between the two is no matter, because
both are in seconds per request (cpython issue 154032 shows what happens otherwise).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from perfloop.model.result import FlameChange, FlameNode

NODES_MAX = 2_000
Z = 1.96


@dataclass(frozen=True)
class Sampled:
    """One flame graph with what is needed to read it per request."""

    root: FlameNode
    requests: int
    rate_hz: float


def flame_change(before: Sampled, after: Sampled) -> FlameChange | None:
    """The union of both trees, heaviest paths first; None where one of them has no request."""
    if before.requests < 1 or after.requests < 1:
        return None
    left = [NODES_MAX]
    return _merged(before.root, after.root, before, after, left)


def _merged(old: FlameNode | None, new: FlameNode | None, before: Sampled, after: Sampled, left: list[int]) -> FlameChange:
    left[0] -= 1
    one = new or old
    assert one is not None
    was, now = (old.value if old else 0.0) / before.requests, (new.value if new else 0.0) / after.requests
    half = Z * math.sqrt(_variance(old, before) + _variance(new, after))
    keys = {(child.name, child.file): None for node in (new, old) if node for child in sorted(node.children, key=lambda item: -item.value)}
    olds = {(child.name, child.file): child for child in (old.children if old else ())}
    news = {(child.name, child.file): child for child in (new.children if new else ())}
    children = [_merged(olds.get(key), news.get(key), before, after, left) for key in keys if left[0] > 0]
    return FlameChange(
        name=one.name, file=one.file, line=one.line, before_s=was, after_s=now, low_s=now - was - half, high_s=now - was + half, children=tuple(children)
    )


def _variance(node: FlameNode | None, sampled: Sampled) -> float:
    """Of the seconds per request; a path that was not seen could have been seen once."""
    value = max(node.value if node else 0.0, 1 / max(sampled.rate_hz, 1.0))
    return value / max(sampled.rate_hz, 1.0) / sampled.requests**2
