"""Sampled stacks as a flame graph: inclusive seconds by call path."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath

from perfloop.model.evidence import Frame, Stack, StacksObservation
from perfloop.model.result import FlameNode

NODES_MAX = 2_000
DEPTH_MAX = 90  # deeper frames are counted in the last one; a deeper tree would also pass the recursion limit of JSON validation

#: The leaf of a thread that waits for its event loop or its executor: time in which no request needs it.
_IDLE = frozenset(
    {
        ("selectors.py", "select"),
        ("base_events.py", "_run_once"),
        ("base_events.py", "run_forever"),
        ("runners.py", "run"),
        ("thread.py", "_worker"),
        ("queue.py", "get"),
    }
)


@dataclass
class _Node:
    name: str
    file: str
    value: float = 0.0
    lines: dict[int, float] = field(default_factory=dict)
    children: dict[tuple[str, str], _Node] = field(default_factory=dict)


def flame(stacks: Iterable[StacksObservation], source_root: str = "") -> FlameNode:
    """One tree over all processes: time of stacks in the service's own code (waiting included), and CPU time of all others; at most 2,000 nodes, the heaviest.

    ``value`` is inclusive seconds of thread time over the observation. Frames under ``source_root`` are the service's own; empty: frames outside of libraries.
    """
    root = _Node("all", "")
    for observation in stacks:
        own = tuple(_is_own(frame, source_root) for frame in observation.frames)
        for stack in observation.stacks:
            weight = _weight(stack, observation.frames, own)
            if weight > 0:
                _add(root, [observation.frames[index] for index in stack.frames[:DEPTH_MAX]], weight / max(observation.rate_hz, 1e-9))
    return _bounded(root)


def _is_own(frame: Frame, source_root: str) -> bool:
    if "site-packages" in frame.file or "dist-packages" in frame.file or not frame.file.startswith("/"):
        return False
    if source_root:
        return PurePath(frame.file).is_relative_to(source_root)
    return "/lib/python" not in frame.file


def _weight(stack: Stack, frames: tuple[Frame, ...], own: tuple[bool, ...]) -> float:
    """All samples of a stack in the service's own code that is not just waiting for work; of others those on a CPU."""
    if not stack.frames or not any(own[index] for index in stack.frames):
        return stack.active
    leaf = frames[stack.frames[-1]]
    return stack.active if (PurePath(leaf.file).name, leaf.function) in _IDLE else stack.total


def _add(root: _Node, path: list[Frame], value: float) -> None:
    node = root
    node.value += value
    for frame in path:
        node = node.children.setdefault((frame.function, frame.file), _Node(frame.function, frame.file))
        node.value += value
        node.lines[frame.line] = node.lines.get(frame.line, 0.0) + value


def _bounded(root: _Node) -> FlameNode:
    """The heaviest nodes, from the root down: a child is never heavier than its parent, so what is kept is one tree."""
    kept: set[int] = set()
    heap: list[tuple[float, int, _Node]] = [(-root.value, 0, root)]
    number = 0
    while heap and len(kept) < NODES_MAX:
        _, _, node = heapq.heappop(heap)
        kept.add(id(node))
        for child in node.children.values():
            number += 1
            heapq.heappush(heap, (-child.value, number, child))
    return _frozen(root, kept)


def _frozen(node: _Node, kept: set[int]) -> FlameNode:
    children = sorted((child for child in node.children.values() if id(child) in kept), key=lambda child: -child.value)
    line = max(node.lines, key=lambda key: node.lines[key]) if node.lines else 0
    return FlameNode(name=node.name, value=node.value, file=node.file, line=line, children=tuple(_frozen(child, kept) for child in children))
