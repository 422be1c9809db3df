"""What the source of a function on a stack says: the statement at a line, loops around it, caches and growing containers in it."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from perfloop.model.evidence import Frame, SourceSnippet

_GROWS = {"append", "add", "extend", "setdefault", "appendleft", "insert", "update"}
_SHRINKS = {"pop", "popitem", "popleft", "clear", "remove", "discard"}


@dataclass(frozen=True)
class Function:
    """One parsed function; ``shift`` added to a node's line gives the line in ``file``."""

    file: str
    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef
    shift: int
    text: str

    def line(self, node: ast.AST) -> int:
        """The line of a node in the file."""
        return int(getattr(node, "lineno", 1)) + self.shift

    @property
    def is_async(self) -> bool:
        """True for ``async def``."""
        return isinstance(self.node, ast.AsyncFunctionDef)

    @property
    def decorators(self) -> tuple[str, ...]:
        """The decorators as text, without ``@``."""
        return tuple(ast.unparse(item) for item in self.node.decorator_list)


class Code:
    """The snippets of an evidence, parsed when first asked for. Text that does not parse is treated as absent."""

    def __init__(self, snippets: Iterable[SourceSnippet]) -> None:
        self._snippets: dict[str, list[SourceSnippet]] = {}
        for snippet in snippets:
            self._snippets.setdefault(snippet.file, []).append(snippet)
        self._parsed: dict[tuple[str, int], Function | None] = {}

    def function(self, file: str, line: int) -> Function | None:
        """The innermost known function that covers a line."""
        best: SourceSnippet | None = None
        for snippet in self._snippets.get(file, ()):
            if snippet.first_line <= line <= snippet.first_line + snippet.text.count("\n") and (best is None or snippet.first_line > best.first_line):
                best = snippet
        return None if best is None else self._parse(best)

    def functions(self) -> Iterator[Function]:
        """Every function that parses."""
        for snippets in self._snippets.values():
            for snippet in snippets:
                function = self._parse(snippet)
                if function:
                    yield function

    def statement(self, frame: Frame) -> ast.stmt | None:
        """The innermost statement at the frame's line; of a compound statement only its header counts."""
        function = self.function(frame.file, frame.line)
        if function is None:
            return None
        wanted = frame.line - function.shift
        found: ast.stmt | None = None
        for node in ast.walk(function.node):
            if isinstance(node, ast.stmt) and node.lineno <= wanted <= _header_end(node) and (found is None or node.lineno >= found.lineno):
                found = node
        return found

    def text(self, frame: Frame) -> str:
        """The statement at the frame's line as one line of text; empty where the source is not known."""
        statement = self.statement(frame)
        return "" if statement is None else _header_text(statement)

    def in_loop(self, frame: Frame) -> bool:
        """True where the frame's line runs repeatedly inside a loop or comprehension of its own function."""
        function = self.function(frame.file, frame.line)
        return function is not None and loop_depth(function, frame.line) > 0

    def _parse(self, snippet: SourceSnippet) -> Function | None:
        key = (snippet.file, snippet.first_line)
        if key not in self._parsed:
            self._parsed[key] = _parse(snippet)
        return self._parsed[key]


def _parse(snippet: SourceSnippet) -> Function | None:
    try:
        tree = ast.parse(textwrap.dedent(snippet.text))
    except (SyntaxError, ValueError):
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return Function(snippet.file, snippet.function, node, snippet.first_line - 1, snippet.text)
    return None


def _header_end(node: ast.stmt) -> int:
    body = getattr(node, "body", None)
    if isinstance(body, list) and body:
        first: int = body[0].lineno
        return max(int(node.lineno), first - 1)
    return _end(node)


def _header_text(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return ""
    return ast.unparse(node).split("\n", 1)[0].strip()


_LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def loop_depth(function: Function, line: int) -> int:
    """How many loops and comprehensions of the function surround a line; the iterable of the outermost ``for`` does not count."""
    wanted = line - function.shift
    depth = 0
    for node in ast.walk(function.node):
        if not isinstance(node, _LOOPS):
            continue
        if isinstance(node, ast.For | ast.AsyncFor):
            depth += bool(node.body) and node.body[0].lineno <= wanted <= _end(node.body[-1])
        else:
            depth += node.lineno <= wanted <= _end(node)
            if not isinstance(node, ast.While):
                depth += len(node.generators) - 1 if node.lineno <= wanted <= _end(node) else 0
    return depth


def _end(node: ast.AST) -> int:
    end = getattr(node, "end_lineno", None)
    return end if isinstance(end, int) else int(getattr(node, "lineno", 0))


def quadratic_hint(function: Function) -> str:
    """Why the function could cost more than its input grows, from its syntax; empty where nothing says so."""
    for node in ast.walk(function.node):
        if not isinstance(node, _LOOPS):
            continue
        at = function.line(node)
        if not isinstance(node, ast.For | ast.AsyncFor | ast.While) and len(node.generators) > 1:
            return f"a comprehension over two iterables at line {at}"
        for inner in _inside(node):
            line = function.line(inner)
            if isinstance(inner, _LOOPS):
                return f"a loop inside a loop, lines {at} and {line}"
            if isinstance(inner, ast.Compare) and any(isinstance(op, ast.In | ast.NotIn) for op in inner.ops):
                return f"a membership test inside a loop, line {line}"
            if isinstance(inner, ast.Call) and _called(inner) in {"sorted", "sort", "index", "count", "remove", "insert", "min", "max", "sum"}:
                return f"{_called(inner)}() inside a loop, line {line}"
    return ""


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.For | ast.AsyncFor | ast.While):
        for statement in node.body:
            yield from ast.walk(statement)
    else:
        for child in ast.iter_child_nodes(node):
            yield from ast.walk(child)


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@dataclass(frozen=True)
class Memo:
    """A cache seen in a function: the container or decorator that keeps results, and the line where the function stores or is decorated."""

    container: str
    line: int
    how: str


def memo_of(function: Function) -> Memo | None:
    """The cache that a function keeps its result in: a caching decorator, or a container that it reads by a key and stores into by the same key."""
    for decorator in function.node.decorator_list:
        name = ast.unparse(decorator)
        if "cache" in name.lower() or "memo" in name.lower():
            return Memo(name, function.line(decorator), f"@{name}")
    read: set[tuple[str, str]] = set()
    for node in ast.walk(function.node):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            read.add((ast.unparse(node.value), ast.unparse(node.slice)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
            read.add((ast.unparse(node.func.value), ast.unparse(node.args[0])))
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.In | ast.NotIn):
            read.add((ast.unparse(node.comparators[0]), ast.unparse(node.left)))
    local = _fresh_names(function)
    for name, key, node in _stores(function):
        if (name, key) in read and name.split(".")[0] not in local and not _in_loop_body(function, node):
            return Memo(name, function.line(node), f"{name}[{key}]")
    return None


def _stores(function: Function) -> Iterator[tuple[str, str, ast.AST]]:
    for node in ast.walk(function.node):
        if isinstance(node, ast.Assign):
            for target in [part for one in node.targets for part in (one.elts if isinstance(one, ast.Tuple) else [one])]:
                if isinstance(target, ast.Subscript):
                    yield ast.unparse(target.value), ast.unparse(target.slice), node
        elif isinstance(node, ast.Call) and _called(node) in {"set", "setdefault", "put", "setex"} and isinstance(node.func, ast.Attribute) and node.args:
            yield ast.unparse(node.func.value), ast.unparse(node.args[0]), node


def _in_loop_body(function: Function, node: ast.AST) -> bool:
    return loop_depth(function, function.line(node)) > 0


def _local_names(function: Function) -> set[str]:
    declared = {name for node in ast.walk(function.node) if isinstance(node, ast.Global) for name in node.names}
    names = {node.id for node in ast.walk(function.node) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names - declared


def _fresh_names(function: Function) -> set[str]:
    """Names bound to a container that the function itself makes: what they hold dies with the call."""
    makers = {"dict", "list", "set", "defaultdict", "OrderedDict", "Counter"}
    fresh: set[str] = set()
    for node in ast.walk(function.node):
        value = getattr(node, "value", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and (
            isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp)
            or (isinstance(value, ast.Call) and _called(value) in makers)
        ):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            fresh |= {target.id for target in targets if isinstance(target, ast.Name)}
    return fresh & _local_names(function)


def growing_containers(functions: Sequence[Function]) -> list[tuple[Function, str, int]]:
    """Containers that outlive a call (not local to the function), are added to, and are never emptied in the functions given: (function, name, line)."""
    shrunk: set[str] = set()
    grown: list[tuple[Function, str, int]] = []
    for function in functions:
        local = _local_names(function)
        arguments = {item.arg for item in ast.walk(function.node) if isinstance(item, ast.arg)} - {"self", "cls"}
        for name, line, grows in _container_uses(function):
            if not grows:
                shrunk.add(name)
            elif name.split(".")[0] not in local | arguments:
                grown.append((function, name, line))
    return [item for item in grown if item[1] not in shrunk]


def _container_uses(function: Function) -> Iterator[tuple[str, int, bool]]:
    for node in ast.walk(function.node):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _GROWS | _SHRINKS:
            yield ast.unparse(node.func.value), function.line(node), node.func.attr in _GROWS
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Subscript) and not isinstance(target.slice, ast.Slice):
                    yield ast.unparse(target.value), function.line(node), True
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and isinstance(node.value, ast.List | ast.ListComp):
            yield ast.unparse(node.target), function.line(node), True
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                if isinstance(target, ast.Subscript):
                    yield ast.unparse(target.value), function.line(node), False
