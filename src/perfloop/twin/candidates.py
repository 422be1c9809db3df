"""How big a what-if index would be, from the twin's own catalogue and statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfloop.twin import derived as derived_statistics
from perfloop.twin import elements, inverted, sizing

if TYPE_CHECKING:
    import psycopg

_ALIGN = {"c": 1, "s": 2, "i": 4, "d": 8}
_SHORT_VARLENA = 126
_DEFAULT_WIDTH = 32.0
_WIDTHS_UNKNOWN = (8.0, _DEFAULT_WIDTH, 100.0)
MODEL_ERROR = 0.03
#: types whose equal values may differ in bytes, so their b-trees never share posting lists (allequalimage is false)
_NO_DEDUP = ("numeric", "float4", "float8", "jsonb", "interval")

_INDEX = """
SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), n.nspname, c.relname, am.amname, i.indisunique,
       quote_ident(tn.nspname) || '.' || quote_ident(t.relname), pg_get_expr(i.indpred, i.indrelid),
       coalesce((SELECT split_part(o, '=', 2)::float FROM unnest(c.reloptions) o WHERE o LIKE 'fillfactor=%%'), 90) / 100, t.oid,
       coalesce((SELECT split_part(o, '=', 2)::bool FROM unnest(c.reloptions) o WHERE o LIKE 'deduplicate_items=%%'), true),
       (pg_relation_size(t.oid) / current_setting('block_size')::int)::int,
       -- a column set of the table is unique that the candidate's own holds
       EXISTS (SELECT FROM pg_index u WHERE u.indrelid = i.indrelid AND u.indexrelid <> i.indexrelid AND u.indisunique AND u.indpred IS NULL AND NOT 0 = ANY(u.indkey)
         AND (u.indkey::int2[])[0:u.indnkeyatts - 1] <@ (i.indkey::int2[])[0:i.indnkeyatts - 1]),
       -- the most distinct values that a foreign key's columns can have: the rows that they refer to
       (SELECT min(r.reltuples) FROM pg_constraint f JOIN pg_class r ON r.oid = f.confrelid
        WHERE f.contype = 'f' AND f.conrelid = i.indrelid AND r.reltuples > 0 AND f.conkey @> (i.indkey::int2[])[0:i.indnkeyatts - 1] AND (i.indkey::int2[])[0:i.indnkeyatts - 1] @> f.conkey)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am am ON am.oid = c.relam
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace WHERE c.oid = ANY(%s::oid[])"""

_COLUMNS = """
SELECT i.indexrelid, ia.attnum > i.indnkeyatts, ia.attlen, ia.attalign, ty.typname, s.avg_width, s.n_distinct, s.null_frac, s.most_common_freqs, i.indkey[ia.attnum - 1] = 0, ta.attname,
       format_type(ia.atttypid, -1), n.nspname, t.relname, ia.attname::text, o.opcname::text, pg_get_indexdef(i.indexrelid, ia.attnum, false)
FROM pg_index i JOIN pg_attribute ia ON ia.attrelid = i.indexrelid JOIN pg_type ty ON ty.oid = ia.atttypid
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
LEFT JOIN pg_opclass o ON ia.attnum <= i.indnkeyatts AND o.oid = (i.indclass::oid[])[ia.attnum - 1]
LEFT JOIN pg_attribute ta ON ta.attrelid = t.oid AND ta.attnum = i.indkey[ia.attnum - 1] AND ta.attnum > 0
LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = t.relname AND s.attname = ta.attname AND NOT s.inherited
WHERE i.indexrelid = ANY(%s::oid[]) ORDER BY i.indexrelid, ia.attnum"""

#: sizes of some values of a column, evenly chosen from its histogram: arrays pack their elements as an index does
_WIDTHS = """
SELECT pg_column_size(v) FROM pg_stats s, unnest(s.histogram_bounds::text::{type}[]) v WHERE s.schemaname = %(schema)s AND s.tablename = %(table)s AND s.attname = %(column)s AND NOT s.inherited"""
_COMMON_WIDTHS = _WIDTHS.replace("histogram_bounds", "most_common_vals")
_WIDTHS_COUNT = 101

#: (table, its key columns, the predicate of a partial index) → distinct keys, where somebody counted or sampled them
Joint = Mapping[tuple[str, frozenset[str], str], float]


@dataclass(frozen=True)
class Variant:
    """One way in which a candidate may come out: its size, what its metapage says, and the statistics that its expressions will have."""

    pages: int
    rows: float
    height: int | None = None  # of a b-tree
    brin: inverted.Brin | None = None
    gin: inverted.Gin | None = None
    stats: tuple[dict[str, Any], ...] = field(repr=False, default=())


@dataclass(frozen=True)
class Measured:
    """What a candidate comes to: ``best``, and ``others`` that bound it where the statistics do not tell (none where they do)."""

    qualified: str
    schema: str
    name: str
    table: str
    best: Variant
    others: tuple[Variant, ...] = ()
    notes: tuple[str, ...] = ()
    model_error: float = 0.0  # of sizes, beside what is not known

    @property
    def pages_low(self) -> int:
        """The fewest pages that it may take."""
        least = min(variant.pages for variant in (self.best, *self.others))
        return max(1, int(least * (1 - self.model_error)) - (self.model_error > 0))

    @property
    def pages_high(self) -> int:
        """The most."""
        most = max(variant.pages for variant in (self.best, *self.others))
        return math.ceil(most * (1 + self.model_error)) + (self.model_error > 0)


class Measurer:
    """Measures candidates of one twin; what it learnt of tables and columns serves the next one too. ``path_of``: the file of a relation."""

    def __init__(self, connection: psycopg.Connection[Any], joint: Joint) -> None:
        self.connection, self.joint = connection, joint
        self._rows: dict[tuple[str, str | None], float] = {}
        self._widths: dict[tuple[str, str, str], tuple[float, ...]] = {}

    def measure(self, oids: Sequence[int], path_of: Callable[[str], Path]) -> dict[int, Measured]:
        """Size, height and statistics of these indexes, which are empty. Tables and their statistics must be in place."""
        columns: dict[int, list[tuple[Any, ...]]] = {}
        for row in self.connection.execute(_COLUMNS, (list(oids),)).fetchall():
            columns.setdefault(row[0], []).append(row[1:])
        return {row[0]: self._one(_Asked(self, columns[row[0]], *row), path_of) for row in self.connection.execute(_INDEX, (list(oids),)).fetchall()}

    def _one(self, asked: _Asked, path_of: Callable[[str], Path]) -> Measured:
        if asked.method == "btree":
            best, others, notes = asked.btree()
        elif asked.method == "brin":
            best, others, notes = asked.brin(inverted.pages_each(path_of(asked.qualified)))
        elif asked.method == "gin":
            best, others, notes = asked.gin()
        else:
            best, others, notes = asked.btree()
            best, others = replace(best, height=None), tuple(replace(other, height=None) for other in others)
            notes = (*notes, f"the size of a {asked.method} index is estimated as a b-tree's")
        others = () if all(other == best for other in others) else others
        certain = asked.method == "brin" or (asked.method == "btree" and not any(values[8] for values in asked.columns))
        return Measured(asked.qualified, asked.schema, asked.name, asked.table, best, others, notes, 0.0 if certain else MODEL_ERROR)

    def rows(self, table: str, predicate: str | None) -> float:
        """The planner's own estimate of the rows that an index of the table would hold."""
        if (table, predicate) not in self._rows:
            self._rows[table, predicate] = _rows(self.connection, table, predicate)
        return self._rows[table, predicate]

    def widths(self, values: tuple[Any, ...]) -> tuple[float, ...]:
        """Widths that stand for a column's values."""
        if values[1] > 0 or values[9] is None:
            return ()
        key = (values[11], values[12], values[9])
        if key not in self._widths:
            self._widths[key] = _widths(self.connection, values)
        return self._widths[key]


Answer = tuple[Variant, tuple[Variant, ...], tuple[str, ...]]


@dataclass
class _Asked:
    """One index to be measured."""

    by: Measurer
    columns: list[tuple[Any, ...]]
    oid: int
    qualified: str
    schema: str
    name: str
    method: str
    unique: bool
    table: str
    predicate: str | None
    fill: float
    table_oid: int
    deduplicates: bool
    heap_pages: int
    holds_unique: bool
    referred: float | None

    def btree(self) -> Answer:
        """A b-tree; its expressions by what the column's statistics make of them."""
        rows, table_rows = self.by.rows(self.table, self.predicate), self.by.rows(self.table, None)
        derived = {number: self._derived(values, rows) for number, values in enumerate(self.columns) if values[8]}
        unique = self.unique or self.holds_unique
        dedup = self.deduplicates and not unique and not any(values[3] in _NO_DEDUP for values in self.columns)
        notes = [f"what {self.columns[number][13]} will be like is not in the statistics" for number, one in derived.items() if one is None]

        def variant(distinct: float | None, which: int = 1, picked: bool = False) -> Variant:
            keys = [self._key(number, values, derived.get(number), table_rows, rows, which) for number, values in enumerate(self.columns)]
            if picked:
                keys = [
                    replace(key, distinct=max(1.0, min(rows, _known_distinct(values, table_rows) * rows / max(table_rows, 1.0))))
                    for key, values in zip(keys, self.columns, strict=True)
                ]
            shape = sizing.btree_shape(rows, keys, dedup=dedup, fill=self.fill, distinct=distinct)
            stats = tuple(self._stats(number, one, keys[number], rows, which) for number, one in derived.items() if one is not None or which != 1)
            return Variant(shape.pages, rows, shape.height, stats=stats)

        names = frozenset(values[9] for values in self.columns if not values[0] and values[9] is not None)
        known = self.by.joint.get((self.table, names, self.predicate or "")) if not derived else None
        several = sum(not values[0] for values in self.columns) > 1
        others: tuple[Variant, ...] = ()
        best = variant(known)
        if derived:
            others = tuple(variant(None, which) for which in ((0, 2, derived_statistics.UNSEEN) if all(derived.values()) else (0, 2)))
        elif dedup and known is None and several:
            fewest, most = self._bounds(rows, table_rows)
            best, others = variant(most), (variant(fewest),)
            if best.pages != others[0].pages:
                notes.append("how many distinct values several columns have together is not in the statistics: it is counted as if they were independent")
        elif dedup and known is None and self.predicate:
            # at one end the predicate picks whole keys, at the other it picks rows by chance
            others = (variant(None, picked=True),)
        return best, others, tuple(notes)

    def brin(self, pages_each: int) -> Answer:
        """Known but for the width of text summaries."""
        sizes = [inverted.summary_bytes(values[1], float(values[4] or _DEFAULT_WIDTH)) for values in self.columns]
        found = [inverted.brin_shape(self.heap_pages, pages_each, [size[which] for size in sizes]) for which in (0, 1, 2)]
        ranges = float(-(-self.heap_pages // max(1, pages_each)))
        low, best, high = (Variant(one.pages, ranges, brin=one) for one in found)
        notes = () if all(values[1] > 0 for values in self.columns) else ("how wide the summaries of a text are is not in the statistics",)
        return best, (low, high), notes

    def gin(self) -> Answer:
        """By the elements that the statistics know; the rest lies in a range."""
        columns = [elements.Column(values[11], values[12], values[9], values[14], float(values[4] or _DEFAULT_WIDTH)) for values in self.columns]
        shapes, known = elements.shapes(self.by.connection, columns, self.by.rows(self.table, self.predicate), self.heap_pages)
        low, best, high = (Variant(shape.pages, postings, gin=shape) for shape, postings in shapes)
        return best, (low, high), () if known else ("which elements it will hold is not in the statistics: its size is a guess",)

    def _derived(self, values: tuple[Any, ...], rows: float) -> derived_statistics.Derived | None:
        return derived_statistics.derive(self.by.connection, self.table_oid, values[11], values[12], values[15], rows)

    def _stats(self, number: int, derived: derived_statistics.Derived | None, key: sizing.KeyColumn, rows: float, which: int) -> dict[str, Any]:
        given = (self.schema, self.name, self.columns[number][13], key.width)
        return derived.row(*given, rows, which) if derived else derived_statistics.unknown(*given, key.distinct, rows)

    def _key(
        self, number: int, values: tuple[Any, ...], derived: derived_statistics.Derived | None, table_rows: float, rows: float, which: int
    ) -> sizing.KeyColumn:
        included, length, align = values[:3]
        if not values[8]:
            return _column(values, table_rows, rows, self.by.widths(values))
        if derived is None:
            width = float(length) if length > 0 else _WIDTHS_UNKNOWN[which]
            return sizing.KeyColumn(width, _ALIGN[align] if length > 0 else 1, (1.0, rows, rows)[which], 0.0, (), included)
        which = 0 if which == derived_statistics.UNSEEN else which
        shares = derived.shares[which]
        if length > 0:
            return sizing.KeyColumn(length, _ALIGN[align], derived.distinct[which], derived.nulls, shares, included)
        width = sum(derived.sizes) / len(derived.sizes)
        stored = tuple(float(size) for size in derived.sizes)
        return sizing.KeyColumn(width, 1 if width <= _SHORT_VARLENA else 4, derived.distinct[which], derived.nulls, shares, included, stored)

    def _bounds(self, rows: float, table_rows: float) -> tuple[float, float]:
        keys = [_column(values, table_rows, rows, ()) for values in self.columns]
        fewest, most = sizing.distinct_bounds(rows, keys)
        if self.referred:
            most = max(fewest, min(most, float(self.referred)))
        return fewest, most


def _known_distinct(values: tuple[Any, ...], rows: float) -> float:
    distinct = values[5]
    return rows if distinct is None else float(-distinct * rows if distinct < 0 else distinct)


def _column(values: tuple[Any, ...], table_rows: float, rows: float, widths: tuple[float, ...]) -> sizing.KeyColumn:
    """``rows`` of the table's are in the index; distinct values that remain of a partial one's are those of rows picked by chance."""
    included, length, align, _, width, _, nulls, common = values[:8]
    nulls = nulls or 0.0
    distinct = _known_distinct(values, table_rows)
    if rows < table_rows and distinct > 0:
        distinct *= 1 - (1 - rows / table_rows) ** (table_rows / distinct)
        common = ()
    if length > 0:
        return sizing.KeyColumn(length, _ALIGN[align], distinct, nulls, tuple(common or ()), included)
    width = float(width or _DEFAULT_WIDTH)
    return sizing.KeyColumn(width, 1 if width <= _SHORT_VARLENA else 4, distinct, nulls, tuple(common or ()), included, widths)


def _widths(connection: psycopg.Connection[Any], values: tuple[Any, ...]) -> tuple[float, ...]:
    """101 widths that stand for the column's values: the common ones as often as they are, the rest by the histogram. Empty where all have one width, or none is known."""
    length, column, kind, schema, table = values[1], values[9], *values[10:13]
    if length > 0 or column is None:
        return ()
    given = {"schema": schema, "table": table, "column": column}

    def ask(query: str) -> list[float]:
        return [float(row[0]) for row in connection.execute(query.replace("{type}", kind).encode(), given).fetchall()]

    common, spread = ask(_COMMON_WIDTHS), ask(_WIDTHS)
    shares = [float(share) for share in values[7] or ()][: len(common)]
    chosen = [width for width, share in zip(common, shares, strict=False) for _ in range(round(share * _WIDTHS_COUNT))][:_WIDTHS_COUNT]
    left = _WIDTHS_COUNT - len(chosen)
    if spread:
        chosen += [spread[int(number * len(spread) / left)] for number in range(left)]
    return tuple(chosen)


def _rows(connection: psycopg.Connection[Any], table: str, predicate: str | None) -> float:
    """The planner's own estimate of the rows that the index would hold."""
    answer = connection.execute(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {table}{f' WHERE {predicate}' if predicate else ''}".encode()).fetchone()  # noqa: S608 - names are quoted by the server
    assert answer is not None
    return float(answer[0][0]["Plan"]["Plan Rows"])
