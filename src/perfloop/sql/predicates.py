"""What a query looks for, table by table: the columns that an index could serve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope
from sqlglot.schema import MappingSchema

from perfloop.sql.parse import TEXT_MAX_CHARS, Dialect

Schema = Mapping[str, Iterable[str]]  # table, or schema.table → its columns
_EQUAL = (exp.EQ, exp.NullSafeEQ)
_RANGE = (exp.GT, exp.GTE, exp.LT, exp.LTE)


@dataclass(frozen=True)
class TablePredicates:
    """One table of a query: columns compared with a value, with a range, with a list, with another table's column; and the order of the result.

    ``order`` holds (column, descending) where the result is ordered by this table's plain columns alone. Conditions under OR or NOT, and those on a
    function of a column, are left out: a plain index does not serve them.
    """

    table: str
    equality: tuple[str, ...] = ()
    range: tuple[str, ...] = ()
    in_list: tuple[str, ...] = ()
    join: tuple[str, ...] = ()
    order: tuple[tuple[str, bool], ...] = ()


@dataclass
class _Found:
    equality: dict[str, None] = field(default_factory=dict)
    range: dict[str, None] = field(default_factory=dict)
    in_list: dict[str, None] = field(default_factory=dict)
    join: dict[str, None] = field(default_factory=dict)
    order: tuple[tuple[str, bool], ...] = ()


def predicates(text: str, dialect: Dialect = "postgres", schema: Schema | None = None) -> tuple[TablePredicates, ...]:
    """Predicates of each table in the query, in the order of first mention; ``schema`` tells which table an unqualified column belongs to.

    Table names are those of ``schema`` where it knows the table, else as written. Empty where the text cannot be parsed.
    """
    names, mapping = _schema(schema or {})
    found: dict[str, _Found] = {}
    try:
        trees = [tree for tree in sqlglot.parse(text[:TEXT_MAX_CHARS], read=dialect) if tree is not None]
        for tree in trees:
            for scope in _scopes(tree, dialect, mapping):
                _look(scope, names, found)
    except (SqlglotError, RecursionError, ValueError, AttributeError, IndexError, KeyError):
        return ()
    return tuple(TablePredicates(name, tuple(got.equality), tuple(got.range), tuple(got.in_list), tuple(got.join), got.order) for name, got in found.items())


def _schema(schema: Schema) -> tuple[dict[str, str], MappingSchema | None]:
    """Names by which a query may call a table, and the schema in the shape of the parser (one level: a table in two schemas is left out)."""
    short: dict[str, list[str]] = {}
    for full in schema:
        short.setdefault(full.rpartition(".")[2].lower(), []).append(full)
    names = {full.lower(): full for full in schema}
    for name, fulls in short.items():
        preferred = [full for full in fulls if "." not in full or full.lower().startswith("public.")]
        if len(fulls) == 1 or len(preferred) == 1:
            names.setdefault(name, fulls[0] if len(fulls) == 1 else preferred[0])
    tables: dict[str, object] = {name: dict.fromkeys((column.lower() for column in schema[names[name]]), "unknown") for name in short if name in names}
    return names, MappingSchema(tables, normalize=False) if tables else None


def _scopes(tree: exp.Expr, dialect: Dialect, mapping: MappingSchema | None) -> Iterator[Scope]:
    if isinstance(tree, (exp.Update, exp.Delete)):
        tree = _as_select(tree)
    if not isinstance(tree, exp.Query):
        return
    qualified = qualify(
        tree.copy(),
        dialect=dialect,
        schema=mapping,
        validate_qualify_columns=False,
        expand_stars=False,
        identify=False,
        quote_identifiers=False,
        qualify_columns=mapping is not None,
    )
    yield from traverse_scope(qualified)


def _as_select(tree: exp.Update | exp.Delete) -> exp.Expr:
    """The SELECT that finds the rows which a write changes."""
    select = exp.select("*").from_(tree.this.copy())
    where = tree.args.get("where")
    return select.where(where.this.copy()) if where else select


def _look(scope: Scope, names: Mapping[str, str], found: dict[str, _Found]) -> None:
    select = scope.expression
    if not isinstance(select, exp.Select):
        return
    tables = {alias: _name(source, names) for alias, source in scope.sources.items() if isinstance(source, exp.Table)}
    for name in tables.values():
        found.setdefault(name, _Found())

    def table_of(column: exp.Column) -> str:
        if column.table:
            return tables.get(column.table, "")
        return next(iter(tables.values())) if len(scope.sources) == 1 and tables else ""

    conditions = [select.args.get("where")] + [join.args.get("on") for join in select.args.get("joins") or ()]
    for condition in conditions:
        for part in _conjuncts(condition):
            _condition(part, table_of, found)
    for join in select.args.get("joins") or ():
        for identifier in join.args.get("using") or ():
            for name in tables.values():
                found[name].join.setdefault(identifier.name)
    order = select.args.get("order")
    if order is not None:
        _order(order, table_of, found)


def _name(table: exp.Table, names: Mapping[str, str]) -> str:
    written = f"{table.db}.{table.name}" if table.db else table.name
    return names.get(written.lower(), names.get(table.name.lower(), written) if not table.db else written)


def _conjuncts(node: exp.Expr | None) -> Iterator[exp.Expr]:
    """Parts that must all hold."""
    if node is None:
        return
    stack = [node]
    while stack:
        part = stack.pop(0)
        if isinstance(part, (exp.Where, exp.Paren)):
            stack.insert(0, part.this)
        elif isinstance(part, exp.And):
            stack[:0] = [part.left, part.right]
        else:
            yield part


def _condition(part: exp.Expr, table_of: Callable[[exp.Column], str], found: dict[str, _Found]) -> None:
    if isinstance(part, exp.In):
        _note(part.this, "in_list", table_of, found)
    elif isinstance(part, exp.Between):
        _note(part.this, "range", table_of, found)
    elif isinstance(part, exp.Is) and isinstance(part.expression, exp.Null):
        _note(part.this, "equality", table_of, found)
    elif isinstance(part, exp.Column):
        _note(part, "equality", table_of, found)  # a boolean column
    elif isinstance(part, (*_EQUAL, *_RANGE)):
        left, right = _bare(part.left), _bare(part.right)
        kind = "equality" if isinstance(part, _EQUAL) else "range"
        if isinstance(left, exp.Column) and isinstance(right, exp.Column):
            if isinstance(part, _EQUAL) and table_of(left) != table_of(right):
                _note(left, "join", table_of, found)
                _note(right, "join", table_of, found)
        elif isinstance(right, (exp.Any, exp.ArrayAny)) and isinstance(part, _EQUAL):
            _note(left, "in_list", table_of, found)
        elif not right.find(exp.Column):
            _note(left, kind, table_of, found)
        elif not left.find(exp.Column):
            _note(right, kind, table_of, found)


def _bare(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _note(node: exp.Expr, kind: str, table_of: Callable[[exp.Column], str], found: dict[str, _Found]) -> None:
    node = _bare(node)
    if isinstance(node, exp.Column):
        name = table_of(node)
        if name in found:
            getattr(found[name], kind).setdefault(node.name)


def _order(order: exp.Expr, table_of: Callable[[exp.Column], str], found: dict[str, _Found]) -> None:
    columns: list[tuple[str, bool]] = []
    names = set()
    for item in order.expressions:
        column = item.this if isinstance(item, exp.Ordered) else item
        if not isinstance(column, exp.Column):
            return
        names.add(table_of(column))
        columns.append((column.name, bool(item.args.get("desc"))))
    name = names.pop() if len(names) == 1 else ""
    if name in found:
        found[name].order = tuple(columns)
