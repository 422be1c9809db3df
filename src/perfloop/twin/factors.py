"""What differs between two snapshots, as factors that can be swapped one at a time: settings, indexes, column types, statistics, sizes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from perfloop.twin.snapshot import Row, Snapshot

SIZE_RATIO_MIN = 1.02
_STATS_IDENTITY = ("schemaname", "relname", "attname", "inherited")
#: fields of statistics that two samples of the same data may move without any meaning
_STATS_VALUES = ("null_frac", "n_distinct", "most_common_vals", "most_common_freqs", "histogram_bounds", "correlation", "avg_width")


@dataclass(frozen=True, order=True)
class Factor:
    """One difference. ``kind``: setting, index, type, statistics, size, visibility, view; ``table`` is empty for settings; ``detail`` says it in words."""

    kind: str
    table: str
    name: str
    detail: str = ""


def differences(then: Snapshot, now: Snapshot) -> tuple[Factor, ...]:
    """All factors by which ``now`` differs from ``then``, for the tables that both have."""
    return tuple(
        dict.fromkeys((*_settings(then, now), *_indexes(then, now), *_types(then, now), *_statistics(then, now), *_sizes(then, now), *_views(then, now)))
    )


def mixed(base: Snapshot, other: Snapshot, swapped: Collection[Factor]) -> Snapshot:
    """``base`` with these factors as they are in ``other``."""
    by: dict[str, set[tuple[str, str]]] = {}
    for factor in swapped:
        by.setdefault(factor.kind, set()).add((factor.table, factor.name))
    settings = dict(base.settings)
    for _, name in by.get("setting", ()):
        value = dict(other.settings).get(name)
        if value is None:
            settings.pop(name, None)
        else:
            settings[name] = value
    oids = {table["name"]: table["oid"] for table in base.tables}
    indexes, constraints, heights = _mixed_indexes(base, other, by.get("index", set()), oids)
    indexes, heights = _resized(indexes, heights, other, by.get("size", set()))
    views = dict(base.views)
    views |= {name: definition for name, definition in other.views if ("", name) in by.get("view", set())}
    return replace(
        base,
        settings=tuple(settings.items()),
        columns=_mixed_columns(base, other, by.get("type", set())),
        indexes=indexes,
        constraints=constraints,
        heights=heights,
        stats=_mixed_stats(base, other, by.get("statistics", set())),
        tables=_mixed_tables(base, other, by.get("size", set()), by.get("visibility", set())),
        views=tuple(views.items()),
    )


def _settings(then: Snapshot, now: Snapshot) -> Iterator[Factor]:
    old, new = dict(then.settings), dict(now.settings)
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            yield Factor("setting", "", name, f"{old[name]} → {new[name]}")


def _index_map(snapshot: Snapshot) -> dict[tuple[str, str], Row]:
    return {(index["table"], index["name"]): index for index in snapshot.indexes}


def _indexes(then: Snapshot, now: Snapshot) -> Iterator[Factor]:
    old, new = _index_map(then), _index_map(now)
    tables = {table["name"] for table in then.tables} & {table["name"] for table in now.tables}
    for key in sorted(old.keys() | new.keys()):
        table, name = key
        if table not in tables:
            continue
        before, after = old.get(key), new.get(key)
        if before is None and after is not None:
            if after["valid"]:
                yield Factor("index", table, name, f"added: {after['definition']}")
        elif after is None and before is not None:
            if before["valid"]:
                yield Factor("index", table, name, f"dropped: {before['definition']}")
        elif before is not None and after is not None:
            if before["valid"] != after["valid"]:
                yield Factor("index", table, name, f"it became {'invalid' if before['valid'] else 'valid'}: {before['definition']}")
            elif before["definition"] != after["definition"]:
                yield Factor("index", table, name, f"changed: {before['definition']} → {after['definition']}")
            elif _far(before["pages"], after["pages"]):
                yield Factor("size", table, name, f"index of {before['pages']:,} → {after['pages']:,} pages")


def _columns(snapshot: Snapshot) -> dict[tuple[str, str], Row]:
    names = {table["oid"]: table["name"] for table in snapshot.tables}
    return {(names[column["oid"]], column["column"]): column for column in snapshot.columns if column["oid"] in names}


def _types(then: Snapshot, now: Snapshot) -> Iterator[Factor]:
    old, new = _columns(then), _columns(now)
    for key in sorted(old.keys() & new.keys()):
        if old[key]["definition"] != new[key]["definition"]:
            yield Factor("type", key[0], key[1], f"{_type_of(old[key])} → {_type_of(new[key])}")


def _type_of(column: Row) -> str:
    return str(column["definition"]).split(" ", 1)[-1]


def _stats(snapshot: Snapshot) -> dict[tuple[str, str], Row]:
    tables = {(table["bare_schema"], table["bare_name"]): table["name"] for table in snapshot.tables}
    tables |= {(index["bare_schema"], index["bare_name"]): index["table"] for index in snapshot.indexes}
    found = {}
    for row in snapshot.stats:
        table = tables.get((row["schemaname"], row["relname"]))
        if table is not None:
            found[table, f"{row['relname']}.{row['attname']}" if row["inherited"] == "false" else f"{row['relname']}.{row['attname']} (inherited)"] = row
    return found


def _statistics(then: Snapshot, now: Snapshot) -> Iterator[Factor]:
    old, new = _stats(then), _stats(now)
    tables = {table["name"] for table in then.tables} & {table["name"] for table in now.tables}
    for key in sorted(old.keys() | new.keys()):
        if key[0] not in tables:
            continue
        before, after = old.get(key), new.get(key)
        if before is None or after is None:
            yield Factor("statistics", key[0], key[1], "there were none" if before is None else "lost: there are none now")
        elif any(before.get(name) != after.get(name) for name in _STATS_VALUES):
            yield Factor("statistics", key[0], key[1], "changed")


def _sizes(then: Snapshot, now: Snapshot) -> Iterator[Factor]:
    old, new = ({table["name"]: table for table in snapshot.tables} for snapshot in (then, now))
    for name in sorted(old.keys() & new.keys()):
        before, after = old[name], new[name]
        rows = [float(table["reltuples"]) for table in (before, after)]
        if _far(before["pages"], after["pages"]) or _far(*rows):
            yield Factor("size", name, "", f"{rows[0]:,.0f} → {rows[1]:,.0f} rows, {before['pages']:,} → {after['pages']:,} pages")
        shares = [table["relallvisible"] / max(1, table["relpages"]) for table in (before, after)]
        if abs(shares[0] - shares[1]) > 0.1:
            yield Factor("visibility", name, "", f"{shares[0]:.0%} → {shares[1]:.0%} of its pages are known to be visible to all")


def _views(then: Snapshot, now: Snapshot) -> Iterator[Factor]:
    old, new = dict(then.views), dict(now.views)
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            yield Factor("view", "", name, "its definition changed")


def _far(one: float, other: float) -> bool:
    low, high = sorted((max(float(one), 0), max(float(other), 0)))
    return high > low * SIZE_RATIO_MIN + 1


def _mixed_indexes(
    base: Snapshot, other: Snapshot, keys: set[tuple[str, str]], oids: dict[str, int]
) -> tuple[tuple[Row, ...], tuple[Row, ...], dict[str, int]]:
    """Indexes, the constraints that rest on them, and heights; rows out of ``other`` are told to belong to the tables of ``base``."""
    theirs = _index_map(other)
    indexes = [index for index in base.indexes if (index["table"], index["name"]) not in keys]
    gone = {index["oid"] for index in base.indexes} - {index["oid"] for index in indexes}
    constraints = [row for row in base.constraints if row["kind"] == "f" or row["index_oid"] not in gone]
    heights = {name: height for name, height in base.heights.items() if not any(name == key[1] for key in keys)}
    shift = 1 + max((index["oid"] for index in base.indexes), default=0)
    for number, key in enumerate(sorted(keys)):
        index = theirs.get(key)
        if index is None or key[0] not in oids:
            continue
        oid = shift + number
        indexes.append({**index, "oid": oid, "table_oid": oids[key[0]]})
        constraints += [{**row, "index_oid": oid} for row in other.constraints if row["kind"] != "f" and row["index_oid"] == index["oid"]]
        if index["name"] in other.heights:
            heights[index["name"]] = other.heights[index["name"]]
    ordered = sorted(constraints, key=lambda row: row["kind"] == "f")
    return tuple(indexes), tuple(ordered), heights


def _resized(indexes: tuple[Row, ...], heights: dict[str, int], other: Snapshot, keys: set[tuple[str, str]]) -> tuple[tuple[Row, ...], dict[str, int]]:
    theirs, found, high = _index_map(other), [], dict(heights)
    for index in indexes:
        given = theirs.get((index["table"], index["name"])) if (index["table"], index["name"]) in keys else None
        found.append({**index, **{name: given[name] for name in ("relpages", "reltuples", "pages")}} if given else index)
        if given:
            high.pop(index["name"], None)
            high |= {index["name"]: other.heights[index["name"]]} if index["name"] in other.heights else {}
    return tuple(found), high


def _mixed_columns(base: Snapshot, other: Snapshot, keys: set[tuple[str, str]]) -> tuple[Row, ...]:
    theirs, names = _columns(other), {table["oid"]: table["name"] for table in base.tables}
    found = []
    for column in base.columns:
        key = (names.get(column["oid"], ""), column["column"])
        found.append({**column, "definition": theirs[key]["definition"]} if key in keys and key in theirs else column)
    return tuple(found)


def _mixed_stats(base: Snapshot, other: Snapshot, keys: set[tuple[str, str]]) -> tuple[Row, ...]:
    mine, theirs = _stats(base), _stats(other)
    return tuple(
        row for key in dict.fromkeys((*mine, *(key for key in keys if key in theirs))) if (row := theirs.get(key) if key in keys else mine[key]) is not None
    )


def _mixed_tables(base: Snapshot, other: Snapshot, sizes: set[tuple[str, str]], visible: set[tuple[str, str]]) -> tuple[Row, ...]:
    theirs = {table["name"]: table for table in other.tables}
    found: list[dict[str, Any]] = []
    for table in base.tables:
        row, given = dict(table), theirs.get(table["name"])
        if given and (table["name"], "") in sizes:
            share = row["relallvisible"] / max(1, row["relpages"])
            row |= {name: given[name] for name in ("relpages", "reltuples", "pages")}
            row["relallvisible"] = int(share * given["relpages"])
        if given and (table["name"], "") in visible:
            share = given["relallvisible"] / max(1, given["relpages"])
            row["relallvisible"] = int(share * row["relpages"])
        found.append(row)
    return tuple(found)
