"""Indexes that another one makes needless: exact duplicates and redundant prefixes, and invalid leftovers. Pure, over what the catalogue says.

Never one that is unique, backs a constraint, or is the replica identity. An index that seems unused is not judged here: replicas keep counters of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perfloop.model.advice import IndexDrop
from perfloop.sql.connect import Connection, query

_INDEXES = """
select c.oid::bigint, quote_ident(n.nspname) || '.' || quote_ident(c.relname), i.indrelid::bigint, i.indrelid::regclass::text, pg_catalog.pg_get_indexdef(c.oid), am.amname::text,
       i.indisvalid and i.indisready, i.indisunique or i.indisprimary or i.indisexclusion, i.indisreplident,
       exists (select from pg_catalog.pg_constraint k where k.conindid = c.oid and k.contype in ('p', 'u', 'x')),
       array(select pg_catalog.pg_get_indexdef(c.oid, k, false) || ' ' || i.indclass[k - 1] || ' ' || i.indcollation[k - 1] || ' ' || i.indoption[k - 1] from generate_series(1, i.indnkeyatts) k),
       array(select pg_catalog.pg_get_indexdef(c.oid, k, false) from generate_series(i.indnkeyatts + 1, i.indnatts) k),
       array(select pg_catalog.pg_get_indexdef(c.oid, k, false) from generate_series(1, i.indnkeyatts) k),
       coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), ''), pg_catalog.pg_relation_size(c.oid), coalesce(array_to_string(c.reloptions, ','), ''),
       exists (select from pg_catalog.pg_stat_progress_create_index p where p.index_relid = c.oid)
from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace join pg_catalog.pg_am am on am.oid = c.relam
where c.relkind = 'i' and not c.relispartition and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_toast%%' and (%s::text is null or true) order by c.oid
"""


@dataclass(frozen=True)
class Fact:
    """One index. ``keys`` hold column or expression, operator class, collation and direction; ``include`` and ``columns`` names only."""

    oid: int
    name: str
    table_oid: int
    table: str
    definition: str
    method: str
    valid: bool
    unique: bool
    replica_identity: bool
    constraint: bool
    keys: tuple[str, ...]
    include: tuple[str, ...]
    columns: tuple[str, ...]
    predicate: str
    size_bytes: int
    options: str = ""
    building: bool = False


def read(connection: Connection) -> tuple[Fact, ...]:
    """All indexes of the user's tables, in the order of creation."""
    return tuple(_fact(row) for row in query(connection, _INDEXES, (None,)))


def _fact(row: tuple[Any, ...]) -> Fact:
    listed = tuple(tuple(value) if isinstance(value, list) else value for value in row)
    return Fact(*listed)  # type: ignore[arg-type]


def drops(facts: Sequence[Fact]) -> tuple[IndexDrop, ...]:
    """What can go; of equal ones the oldest stays."""
    found: list[IndexDrop] = []
    gone: set[int] = set()
    # the latest and the shortest first, so that what makes it needless is never dropped itself
    for fact in sorted(facts, key=lambda one: (len(one.keys), -one.oid)):
        if fact.unique or fact.constraint or fact.replica_identity or fact.building:
            continue
        if not fact.valid:
            found.append(_drop(fact, "it is invalid: a build that failed left it, every write pays for it and no query uses it"))
            gone.add(fact.oid)
            continue
        cover = next((other for other in facts if other.oid not in gone and _covers(other, fact)), None)
        if cover:
            same = cover.keys == fact.keys and set(cover.include) == set(fact.include)
            found.append(_drop(fact, f"{cover.name} is the same index" if same else f"{cover.name} begins with the same columns and serves the same queries"))
            gone.add(fact.oid)
    return tuple(found)


def _covers(other: Fact, fact: Fact) -> bool:
    """``other`` does all that ``fact`` does: same table, method and predicate, its keys begin with those of ``fact`` (all of them, where order between columns is not kept), and it holds what is included."""
    if (
        other.oid == fact.oid
        or other.table_oid != fact.table_oid
        or other.method != fact.method
        or not other.valid
        or other.building
        or other.predicate != fact.predicate
    ):
        return False
    begins = other.keys[: len(fact.keys)] == fact.keys if other.method == "btree" else other.keys == fact.keys and other.options == fact.options
    return begins and set(fact.include) <= {*other.include, *other.columns}


def _drop(fact: Fact, why: str) -> IndexDrop:
    return IndexDrop(
        index=fact.name,
        table=fact.table,
        why=why,
        ddl=f"DROP INDEX CONCURRENTLY {fact.name};",
        undo=fact.definition.replace("CREATE INDEX ", "CREATE INDEX CONCURRENTLY ", 1) + ";" if fact.valid else "",
        size_bytes=fact.size_bytes,
    )


@dataclass(frozen=True)
class Use:
    """What one server counted: days since its counters began, and scans by index name."""

    days: float
    scans: dict[str, int]


_USE = """
select quote_ident(s.schemaname) || '.' || quote_ident(s.indexrelname), s.idx_scan::bigint,
       extract(epoch from now() - greatest(d.stats_reset, case when d.stats_reset is null or pg_is_in_recovery() then pg_postmaster_start_time() end))::float8 / 86400
from pg_catalog.pg_stat_user_indexes s, pg_catalog.pg_stat_database d where d.datname = current_database()
"""
_FOREIGN = """
select pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
from pg_catalog.pg_constraint f join pg_catalog.pg_index i on i.indrelid = f.conrelid join pg_catalog.pg_class c on c.oid = i.indexrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where f.contype = 'f' and (i.indkey::int2[])[0:cardinality(f.conkey) - 1] @> f.conkey and f.conkey @> (i.indkey::int2[])[0:cardinality(f.conkey) - 1] and (%s::text is null or true)
"""


def use(connection: Connection) -> Use:
    """What this server counted of its indexes. Where it is not known since when, it counts from the server's start."""
    rows = query(connection, _USE)
    return Use(min((float(row[2]) for row in rows), default=0.0), {str(row[0]): int(row[1] or 0) for row in rows})


def supporting(connection: Connection) -> frozenset[str]:
    """Indexes that serve the check of a foreign key: a delete in the table it refers to reads the whole table without."""
    return frozenset(str(row[0]) for row in query(connection, _FOREIGN, (None,)))


def unused(facts: Sequence[Fact], counted: Sequence[Use], keep: frozenset[str], days: float) -> tuple[IndexDrop, ...]:
    """Indexes without a scan on every server for ``days``; none where one of them has counted for less. What must stay is never named."""
    if not counted or min(one.days for one in counted) < days:
        return ()
    since = min(one.days for one in counted)
    found = []
    for fact in facts:
        if fact.unique or fact.constraint or fact.replica_identity or fact.building or not fact.valid or fact.name in keep:
            continue
        if all(one.scans.get(fact.name, 1) == 0 for one in counted):
            servers = "the primary" if len(counted) == 1 else f"the primary and {len(counted) - 1} replica{'s' if len(counted) > 2 else ''}"
            found.append(_drop(fact, f"no query has used it for {since:.0f} days on {servers}"))
    return tuple(found)
