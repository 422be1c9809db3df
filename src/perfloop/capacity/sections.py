"""How much of the time a lock or a pool's connections are held, from sampled stacks and the source: any thread within ``with X:`` holds X.

A lock that is free most of the time is waited for by few, so that waiting says little at low load; holding says all: a lock held for the share u of the
time at the rate r ends the service at r / u.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perfloop.model.evidence import SourceSnippet, StacksObservation

_LOCK = re.compile(r"lock|mutex", re.I)
_POOL = re.compile(r"pool|connection|connect|session|semaphore|sema\b|limiter", re.I)
SECTIONS_MAX = 50


@dataclass(frozen=True)
class Section:
    """One ``with`` block: its file, the line of the ``with``, its body's lines, and what it enters, as written there."""

    file: str
    function: str
    line: int
    body: range
    what: str
    kind: str  # lock or pool


@dataclass(frozen=True)
class Held:
    """Threads within a section at one moment, on average, and those that wait at its ``with``."""

    section: Section
    holders: float
    waiting: float


def sections(sources: Sequence[SourceSnippet]) -> tuple[Section, ...]:
    """The ``with`` blocks whose name says that they take a lock or a connection of a pool."""
    found: list[Section] = []
    for source in sources:
        try:
            tree = ast.parse(textwrap.dedent(source.text))
        except (SyntaxError, RecursionError, ValueError):
            continue
        for node, what in _entered(tree):
            kind = "lock" if _LOCK.search(what) else "pool" if _POOL.search(what) else ""
            if kind and len(found) < SECTIONS_MAX:
                shift = source.first_line - 1
                body = range(node.body[0].lineno + shift, (node.body[-1].end_lineno or node.body[-1].lineno) + shift + 1)
                found.append(Section(source.file, source.function, node.lineno + shift, body, what, kind))
    return tuple(found)


def _entered(tree: ast.AST) -> Iterator[tuple[ast.With, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            for item in node.items:
                yield node, ast.unparse(item.context_expr)


def held(found: Sequence[Section], stacks: Sequence[StacksObservation]) -> tuple[Held, ...]:
    """For each section the mean number of threads that hold it and that wait for it; those never seen are left out."""
    answer = []
    for section in found:
        holders = waiting = 0.0
        for observation in stacks:
            samples = observation.rate_hz * observation.window_s
            if samples <= 0:
                continue
            inside = {index for index, frame in enumerate(observation.frames) if _at(frame.file, frame.function, section) and frame.line in section.body}
            before = {index for index, frame in enumerate(observation.frames) if _at(frame.file, frame.function, section) and frame.line == section.line}
            for stack in observation.stacks:
                frames = set(stack.frames)
                if frames & inside:
                    holders += stack.total / samples
                elif frames & before:
                    waiting += stack.total / samples
        if holders > 0:
            answer.append(Held(section, holders, waiting))
    return tuple(sorted(answer, key=lambda item: -item.holders))


def _at(file: str, function: str, section: Section) -> bool:
    return file == section.file and function.rpartition(".")[2] == section.function.rpartition(".")[2]
