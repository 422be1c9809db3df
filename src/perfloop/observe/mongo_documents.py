"""MongoDB's own documents (system.profile or the server's log, $indexStats, currentOp) as facts; from files, and untested against a server. Pure, no value is kept."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from perfloop.errors import UsageError
from perfloop.host.files import read_limited
from perfloop.model.engines import MongoObservation, SlowEntry

FILE_MAX_BYTES = 64 * 2**20
DOCUMENTS_MAX = 50_000
_RANGE = ("$gt", "$gte", "$lt", "$lte", "$ne", "$nin", "$regex", "$exists")
Document = Mapping[str, Any]


def read(path: Path) -> list[Document]:
    """The documents of a file: one JSON object a line, or one array; ``UsageError`` where it holds neither."""
    text = read_limited(path, FILE_MAX_BYTES).decode(errors="replace").strip()
    try:
        found = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise UsageError(
            f"{path} holds no documents", why=str(error), fix="mongosh --eval 'EJSON.stringify(db.system.profile.find().toArray())' > FILE"
        ) from None
    documents: list[Document] = [item for item in found if isinstance(item, dict)]
    return documents[:DOCUMENTS_MAX]


def observed(documents: Iterable[Document], source: str) -> MongoObservation:
    """Operations by shape, indexes that were never used, operations that wait for a lock, and an index by the ESR rule for each scan."""
    by: defaultdict[str, list[Document]] = defaultdict(list)
    unused: list[str] = []
    wanted: dict[str, None] = {}
    waiting = 0
    for document in documents:
        entry = document.get("attr", document)  # a line of the server's log holds the operation in attr
        if "accesses" in document and "key" in document:
            if _number(document["accesses"].get("ops")) == 0 and document.get("name") != "_id_":
                unused.append(str(document.get("name")))
        elif document.get("waitingForLock"):
            waiting += 1
        elif isinstance(entry, Mapping) and "ns" in entry and ("millis" in entry or "durationMillis" in entry):
            shape = shape_of(entry)
            by[shape].append(entry)
            if "COLLSCAN" in str(entry.get("planSummary", "")) or entry.get("hasSortStage"):
                suggestion = index_for(entry)
                if suggestion:
                    wanted[suggestion] = None
    operations = [_operation(shape, entries) for shape, entries in by.items()]
    return MongoObservation(
        source=source,
        operations=tuple(sorted(operations, key=lambda one: -one.total_ms)[:100]),
        unused_indexes=tuple(unused[:100]),
        suggestions=tuple(wanted)[:20],
        waiting_for_lock=waiting,
    )


def shape_of(entry: Document) -> str:
    """Collection, operation, and the fields of filter and order, without values."""
    command = _command(entry)
    name = next(
        (key for key in ("find", "aggregate", "update", "delete", "count", "distinct", "findAndModify", "insert", "getMore") if key in command),
        str(entry.get("op", "?")),
    )
    filter_, sort = _filter(command), _sort(command)
    fields = ", ".join(sorted(_flat(filter_)))
    return f"{entry['ns']} {name} {{{fields}}}" + (f" sort {{{', '.join(sort)}}}" if sort else "")


def index_for(entry: Document) -> str:
    """The index by the rule equality, sort, range; empty where there is nothing to index."""
    command = _command(entry)
    flat = _flat(_filter(command))
    equal = [name for name, condition in flat.items() if not _is_range(condition)]
    ranged = [name for name, condition in flat.items() if _is_range(condition)]
    sort = [(name, way) for name, way in _sort(command).items() if name not in equal]
    keys = [*((name, 1) for name in equal), *sort, *((name, 1) for name in ranged if name not in dict(sort))]
    collection = str(entry["ns"]).partition(".")[2]
    return f"db.{collection}.createIndex({{{', '.join(f'{name}: {way}' for name, way in keys)}}})" if keys and collection else ""


def _operation(shape: str, entries: list[Document]) -> SlowEntry:
    times = [_number(entry.get("millis", entry.get("durationMillis"))) for entry in entries]
    return SlowEntry(
        text=shape,
        count=len(entries),
        worst_ms=max(times),
        total_ms=sum(times),
        rows_examined=int(sum(_number(entry.get("docsExamined")) for entry in entries)),
        rows_sent=int(sum(_number(entry.get("nreturned")) for entry in entries)),
        no_index=any("COLLSCAN" in str(entry.get("planSummary", "")) for entry in entries),
        temp_on_disk=any(bool(entry.get("usedDisk")) for entry in entries),
    )


def _command(entry: Document) -> Document:
    command = entry.get("command", entry.get("originatingCommand", {}))
    return command if isinstance(command, Mapping) else {}


def _filter(command: Document) -> Document:
    found: Any = command.get("filter", command.get("query", command.get("q", {})))
    for stage in command.get("pipeline", ()) if isinstance(command.get("pipeline"), list) else ():
        if isinstance(stage, Mapping) and "$match" in stage:
            found = stage["$match"]
            break
    return found if isinstance(found, Mapping) else {}


def _sort(command: Document) -> dict[str, int]:
    found: Any = command.get("sort", {})
    for stage in command.get("pipeline", ()) if isinstance(command.get("pipeline"), list) else ():
        if isinstance(stage, Mapping) and "$sort" in stage:
            found = stage["$sort"]
    return {str(name): -1 if _number(way) < 0 else 1 for name, way in found.items()} if isinstance(found, Mapping) else {}


def _flat(filter_: Document) -> dict[str, Any]:
    """Field → condition; ``$and`` opened, ``$or`` left out: each of its branches wants an index of its own."""
    found: dict[str, Any] = {}
    for name, condition in filter_.items():
        if name == "$and" and isinstance(condition, list):
            for part in condition:
                if isinstance(part, Mapping):
                    found |= _flat(part)
        elif not name.startswith("$"):
            found[name] = condition
    return found


def _is_range(condition: Any) -> bool:
    return isinstance(condition, Mapping) and any(operator in condition for operator in _RANGE)


def _number(value: Any) -> float:
    """Numbers as extended JSON writes them: 5, {"$numberLong": "5"}."""
    if isinstance(value, Mapping):
        value = next(iter(value.values()), 0)
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
