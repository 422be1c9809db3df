"""The text of the service's own functions that were seen on a stack, so that a finding can show the code it speaks of."""

from __future__ import annotations

import ast
import re
import site
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from perfloop.errors import StorageError
from perfloop.host.files import read_limited
from perfloop.model.calls import CallsObservation
from perfloop.model.evidence import Frame, SourceSnippet, Stack, StacksObservation

FUNCTIONS_MAX = 200
FILES_MAX = 200
SNIPPET_MAX_BYTES = 64 * 1024
FILE_MAX_BYTES = 4 * 2**20

_LIBRARY_FOLDERS = ("site-packages", "dist-packages", ".venv", "node_modules")
_CALLED = re.compile(r"\b(\w+)\(")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def snippets(stacks: Sequence[StacksObservation], source_root: str) -> tuple[SourceSnippet, ...]:
    """The functions of files under ``source_root`` seen on a stack, most seen first; at most 200, each at most 64 kB. What cannot be read or parsed is skipped."""
    if not source_root:
        return ()
    weights: defaultdict[tuple[str, str, int], float] = defaultdict(float)
    for observation in stacks:
        own = {index: frame for index, frame in enumerate(observation.frames) if is_own(frame.file, source_root)}
        for stack in observation.stacks:
            for index in set(stack.frames) & own.keys():
                frame = own[index]
                weights[frame.file, frame.function, frame.line] += stack.total
    found: dict[tuple[str, int], SourceSnippet] = {}
    files: dict[str, _File | None] = {}
    for (file, function, line), _ in sorted(weights.items(), key=lambda item: -item[1]):
        if len(found) >= FUNCTIONS_MAX:
            break
        if file not in files:
            files[file] = _read(file) if len(files) < FILES_MAX else None
        text = files[file]
        snippet = text.function_at(Frame(function=function, file=file, line=line)) if text else None
        if snippet:
            found.setdefault((file, snippet.first_line), snippet)
    for text in [text for text in files.values() if text]:
        for snippet in text.called_from(found.values()):  # too quick to be seen on a stack: what seen functions call, in files that were seen
            if len(found) >= FUNCTIONS_MAX:
                break
            found.setdefault((snippet.file, snippet.first_line), snippet)
    return tuple(found.values())


def called_stacks(observations: Sequence[CallsObservation]) -> tuple[StacksObservation, ...]:
    """The lines that counted calls came from, as stacks to take snippets of."""
    found = []
    for observation in observations:
        frames: dict[Frame, int] = {}
        stacks = []
        for place in (place for entry in observation.requests for call in entry.calls for place in call.places):
            lines = [Frame(function=function, file=file, line=line) for file, line, function in reversed(place.lines)]
            stacks.append(Stack(thread="", frames=tuple(frames.setdefault(line, len(frames)) for line in lines), total=place.seen, active=0))
        found.append(
            StacksObservation(pid=observation.pid, sampler="calls", rate_hz=1, window_s=observation.window_s, frames=tuple(frames), stacks=tuple(stacks))
        )
    return tuple(found)


def is_own(file: str, source_root: str) -> bool:
    """True for a file of the service itself: under ``source_root``, and of no library or standard library that happens to lie there."""
    path = Path(file)
    if not path.is_absolute() or not path.is_relative_to(source_root) or any(part in _LIBRARY_FOLDERS for part in path.parts):
        return False
    return not any(path.is_relative_to(folder) and not Path(source_root).is_relative_to(folder) for folder in _library_paths())


def _library_paths() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")} | set(site.getsitepackages()))


class _File:
    """One parsed file."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()
        tree = ast.parse(text)
        self._functions: list[_Function] = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]

    def function_at(self, frame: Frame) -> SourceSnippet | None:
        """The innermost function around the frame's line that has its name (lambdas and comprehensions show the function around them)."""
        name = frame.function.rpartition(".")[2]
        around = [node for node in self._functions if _first_line(node) <= frame.line <= (node.end_lineno or node.lineno)]
        named = [node for node in around if node.name == name]
        node = max(named or around, key=_first_line, default=None)
        if node is None:
            return None
        return self._snippet(node, frame.function)

    def called_from(self, snippets: Iterable[SourceSnippet]) -> list[SourceSnippet]:
        """Functions of this file whose names are called in these texts."""
        names = {name for snippet in snippets for name in _CALLED.findall(snippet.text)}
        found = [self._snippet(node, node.name) for node in self._functions if node.name in names]
        return [snippet for snippet in found if snippet is not None]

    def _snippet(self, node: _Function, function: str) -> SourceSnippet | None:
        first = _first_line(node)
        text = "\n".join(self._lines[first - 1 : node.end_lineno])
        if len(text.encode()) > SNIPPET_MAX_BYTES:
            return None
        return SourceSnippet(file=self._path, function=function, first_line=first, text=text)


def _first_line(node: _Function) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _read(path: str) -> _File | None:
    try:
        return _File(path, read_limited(path, FILE_MAX_BYTES).decode("utf-8", errors="replace"))
    except (StorageError, SyntaxError, ValueError, RecursionError):
        return None
