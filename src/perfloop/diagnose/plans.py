"""Reading a plan of PostgreSQL: which scans read a large table for few rows, and which index would serve them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perfloop.model.evidence import TableActivity

_SCANS = {"Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan"}
RANDOM_PAGE_COST = 4.0  # PostgreSQL's default: one row by index costs about one random page


@dataclass(frozen=True)
class Conditions:
    """Plain columns that a filter compares with values: by equality, and by range."""

    equal: tuple[str, ...] = ()
    ranged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scan:
    """A scan that an index could replace. ``columns`` are (name, direction) of that index; ``cost_share`` of the whole plan's cost."""

    node_type: str
    table: TableActivity
    filter: str
    columns: tuple[tuple[str, str], ...]
    rows_out: float
    cost: float
    cost_share: float

    @property
    def cost_indexed(self) -> float:
        """A rough cost by index: one random page a row, and the descent."""
        return min(self.cost, self.rows_out * RANDOM_PAGE_COST + 10)

    @property
    def ddl(self) -> str:
        """The index as a statement, without a name."""
        schema, _, name = self.table.name.rpartition(".")
        target = f"{quoted(schema)}.{quoted(name)}" if schema else quoted(name)
        return f"CREATE INDEX ON {target} ({', '.join(quoted(c) + (' DESC' if d == 'desc' else '') for c, d in self.columns)})"


def quoted(name: str) -> str:
    """An identifier as PostgreSQL needs it written."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def replaceable_scans(plan: Mapping[str, Any], tables: Sequence[TableActivity], rows_min: float, selectivity_max: float) -> list[Scan]:
    """Scans of tables of at least ``rows_min`` rows that keep at most ``selectivity_max`` of them, and that no existing index serves; dearest first."""
    root = plan.get("Plan", plan)
    whole = float(root.get("Total Cost", 0)) or 1.0
    found: list[Scan] = []
    for node, above in _walk(root, ()):
        table = _table(node, tables)
        if table is None or table.rows < rows_min:
            continue
        scan = _scan(node, above, table, whole) or _joined(node, above, table, whole)
        if scan and scan.columns and scan.rows_out <= selectivity_max * table.rows and not served(table.indexes, scan.columns):
            found.append(scan)
    return sorted(found, key=lambda scan: -scan.cost_share)


def _walk(node: Mapping[str, Any], above: tuple[Mapping[str, Any], ...]) -> Iterator[tuple[Mapping[str, Any], tuple[Mapping[str, Any], ...]]]:
    yield node, above
    for child in node.get("Plans", ()):
        yield from _walk(child, (*above, node))


def _table(node: Mapping[str, Any], tables: Sequence[TableActivity]) -> TableActivity | None:
    name = node.get("Relation Name")
    if not name or node.get("Node Type") not in _SCANS:
        return None
    schema = node.get("Schema")
    for table in tables:
        left, _, right = table.name.rpartition(".")
        if right == name and (not schema or not left or left == schema):
            return table
    return None


def _scan(node: Mapping[str, Any], above: tuple[Mapping[str, Any], ...], table: TableActivity, whole: float) -> Scan | None:
    """A scan whose filter, or whose order under a LIMIT, an index could serve."""
    if node["Node Type"] != "Seq Scan" and (node.get("Index Cond") or node.get("Recheck Cond")):
        return None  # an index narrows it already
    text = str(node.get("Filter", ""))
    conditions = conditions_of(text) if text else Conditions()
    order, limit_rows = _order(above, str(node.get("Alias", "")))
    columns = [(name, "asc") for name in conditions.equal[:3]]
    if conditions.ranged:
        columns.append((conditions.ranged[0], "asc"))
    elif order and limit_rows is not None:
        columns += [item for item in order if item[0] not in {name for name, _ in columns}]
    served_by_order = not conditions.ranged and bool(order) and limit_rows is not None
    if not conditions.equal and not conditions.ranged and not served_by_order:
        return None
    workers = 1 + float(_workers(above))
    rows_out = float(node.get("Plan Rows", 0)) * (workers * 0.8 if workers > 1 else 1)
    if served_by_order and limit_rows is not None:
        rows_out = min(rows_out, limit_rows * (1 if not text or conditions.equal else 10))
    cost = float(node.get("Total Cost", 0))
    if limit_rows is not None and node["Node Type"] != "Seq Scan":
        cost = min(cost, whole)
    return Scan(node["Node Type"], table, text, tuple(columns), rows_out, cost, min(1.0, cost / whole))


def _joined(node: Mapping[str, Any], above: tuple[Mapping[str, Any], ...], table: TableActivity, whole: float) -> Scan | None:
    """A table read whole because nothing indexes the column by which few rows of the other side are joined."""
    if node["Node Type"] != "Seq Scan" or node.get("Filter"):
        return None
    join = next((item for item in reversed(above) if "Join" in str(item.get("Node Type")) or item.get("Node Type") == "Nested Loop"), None)
    if join is None:
        return None
    text = str(join.get("Hash Cond") or join.get("Join Filter") or join.get("Merge Cond") or "")
    alias = str(node.get("Alias") or node.get("Relation Name"))
    names = re.findall(rf"\b{re.escape(alias)}\.(\w+)", text)
    rows_out = float(join.get("Plan Rows", 0))
    cost = float(node.get("Total Cost", 0))
    return (
        Scan(node["Node Type"], table, text, tuple((name, "asc") for name in dict.fromkeys(names)), rows_out, cost, min(1.0, cost / whole)) if names else None
    )


def _workers(above: Sequence[Mapping[str, Any]]) -> int:
    return max((int(item.get("Workers Planned", 0)) for item in above), default=0)


def _order(above: Sequence[Mapping[str, Any]], alias: str) -> tuple[list[tuple[str, str]], float | None]:
    """The order wanted right above a scan, where only parallel helpers are between, and the rows of a LIMIT over it."""
    order: list[tuple[str, str]] = []
    limit: float | None = None
    for node in reversed(above):
        kind = node.get("Node Type")
        if kind in {"Sort", "Incremental Sort"} and not order:
            order = [item for item in (_sort_key(str(key), alias) for key in node.get("Sort Key", ())) if item]
            if len(order) != len(node.get("Sort Key", ())):
                return [], None
        elif kind == "Limit":
            limit = float(node.get("Plan Rows", 0))
            break
        elif kind not in {"Gather", "Gather Merge", "Subquery Scan", "Result"}:
            break
    return order, limit


def _sort_key(text: str, alias: str) -> tuple[str, str] | None:
    match = re.fullmatch(r'(?:(\w+)\.)?"?(\w+)"?( DESC)?( NULLS (?:FIRST|LAST))?', text)
    if not match or (match[1] and alias and match[1] != alias):
        return None
    return match[2], "desc" if match[3] else "asc"


def conditions_of(text: str) -> Conditions:
    """The plain columns that a plan's filter compares with values in all cases; conditions under OR, on functions or by pattern do not count."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        tree = sqlglot.parse_one(f"SELECT 1 WHERE {text}", read="postgres")
    except SqlglotError:
        return Conditions()
    where = tree.find(exp.Where)
    if where is None:
        return Conditions()
    equal: dict[str, None] = {}
    ranged: dict[str, None] = {}
    for term in _terms(where.this):
        if isinstance(term, exp.Is):
            column = _column(term.this)
            if column and isinstance(term.expression, exp.Null):
                equal[column] = None
        elif isinstance(term, exp.EQ | exp.GT | exp.GTE | exp.LT | exp.LTE):
            sides = [(_column(term.this), term.expression), (_column(term.expression), term.this)]
            column, other = sides[0] if sides[0][0] else sides[1]
            if column and not list(other.find_all(exp.Column)):
                (equal if isinstance(term, exp.EQ) else ranged)[column] = None
    return Conditions(tuple(equal), tuple(name for name in ranged if name not in equal))


def _terms(node: Any) -> Iterator[Any]:
    from sqlglot import exp

    node = node.unnest()
    if isinstance(node, exp.And):
        yield from _terms(node.this)
        yield from _terms(node.expression)
    else:
        yield node


def _column(node: Any) -> str:
    from sqlglot import exp

    while isinstance(node, exp.Cast | exp.Paren):
        node = node.this
    return str(node.name) if isinstance(node, exp.Column) else ""


def served(indexes: Sequence[str], columns: Sequence[tuple[str, str]]) -> bool:
    """True where an existing, whole (not partial) B-tree index begins with these columns, in any order among them."""
    wanted = {name for name, _ in columns}
    for definition in indexes:
        match = re.search(r"USING btree \((.*?)\)(?: INCLUDE| WITH| TABLESPACE|$)", definition.split(" WHERE ")[0])
        if match and " WHERE " not in definition:
            names = [part.strip().split(" ")[0].strip('"') for part in match[1].split(",")]
            if set(names[: len(wanted)]) == wanted:
                return True
    return False
