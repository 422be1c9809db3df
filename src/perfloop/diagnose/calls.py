"""Calls that a request makes to others: where they are made, whether in a loop, one after another, or again and again."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

from perfloop.diagnose.code import Function, loop_depth
from perfloop.diagnose.frames import Doing
from perfloop.diagnose.reading import Reading, Sample, StepView, by_place
from perfloop.model.evidence import Frame


def calls_of(reading: Reading, step: StepView, kind: Doing) -> list[Sample]:
    """Samples of an endpoint inside calls of one kind, alone and under load. A coroutine that waits is on no stack: there, what is seen is the moments in which it computes."""
    both = [*step.samples, *reading.by_step.get(step.name, ())]
    return [sample for sample in both if kind in (sample.layer, sample.waits_for)]


def repeated_place(reading: Reading, samples: Sequence[Sample]) -> tuple[Frame | None, float]:
    """The innermost line with most of the time; where a helper is called from a loop, the line of the loop that calls it."""
    lines = by_place(samples, lambda sample: sample.total)
    if not lines:
        return None, 0.0
    best, held = lines[0]
    if not reading.code.in_loop(best):
        callers: dict[Frame, float] = {}
        for sample in samples:
            if sample.place == best:
                for frame in reversed(sample.app[:-1]):
                    if reading.code.in_loop(frame):
                        callers[frame] = callers.get(frame, 0.0) + sample.total
                        break
        if callers:
            caller = max(callers, key=lambda frame: callers[frame])
            if callers[caller] >= 0.5 * held:
                return caller, sum(sample.total for sample in samples if caller in sample.app)
    return best, held


def caller_place(reading: Reading, samples: Sequence[Sample], keys: Iterable[tuple[str, str]]) -> Frame | None:
    """The line, in one of these functions (file, name), under which most of the samples' time passes."""
    wanted = set(keys)
    lines: dict[Frame, float] = {}
    for sample in samples:
        for frame in sample.app:
            if (frame.file, frame.function) in wanted:
                lines[frame] = lines.get(frame, 0.0) + sample.total
    return max(lines, key=lambda frame: lines[frame]) if lines else None


def retry_line(reading: Reading, samples: Sequence[Sample]) -> Frame | None:
    """The line of a call that its own function makes again when it failed: inside a ``try`` in a loop, whose handler goes on."""
    lines: dict[Frame, float] = {}
    for sample in samples:
        for frame in reversed(sample.app):
            function = reading.code.function(frame.file, frame.line)
            if function is not None and retries_at(function, frame.line):
                lines[frame] = lines.get(frame, 0.0) + sample.total
                break
    return max(lines, key=lambda frame: lines[frame]) if lines else None


def retries_at(function: Function, line: int) -> bool:
    """True where the statement at a line is tried again by its own function after an exception."""
    wanted = line - function.shift
    for node in ast.walk(function.node):
        if not isinstance(node, ast.For | ast.AsyncFor | ast.While):
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.Try) and inner.body and inner.body[0].lineno <= wanted <= (inner.body[-1].end_lineno or 0):
                return any(_goes_on(handler) for handler in inner.handlers)
    return False


def _goes_on(handler: ast.ExceptHandler) -> bool:
    return not any(isinstance(node, ast.Return | ast.Break) for node in ast.walk(handler)) and not isinstance(handler.body[-1], ast.Raise)


def independent(function: Function, lines: Iterable[int]) -> list[int]:
    """Of these lines, those whose statements use nothing that another of them assigned before, and that are in no loop; in order."""
    statements = sorted(_statements(function, lines), key=lambda item: item[0])
    made: set[str] = set()
    found = []
    for line, statement in statements:
        names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        stored = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        if not names & made and loop_depth(function, line) == 0:
            found.append(line)
        made |= stored
    return found


def _statements(function: Function, lines: Iterable[int]) -> Iterator[tuple[int, ast.stmt]]:
    for line in set(lines):
        wanted = line - function.shift
        best: ast.stmt | None = None
        for node in ast.walk(function.node):
            if isinstance(node, ast.stmt) and node.lineno <= wanted <= (node.end_lineno or 0) and not hasattr(node, "body"):
                best = node if best is None or node.lineno >= best.lineno else best
        if best is not None:
            yield line, best


def awaited_lines(function: Function) -> list[int]:
    """Lines of statements, in no loop, that await a call."""
    found = set()
    for node in ast.walk(function.node):
        if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
            line = function.line(node)
            if loop_depth(function, line) == 0:
                found.add(line)
    return sorted(found)
