"""Documents as MongoDB's manual shows them; there is no server here to take them from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfloop.errors import UsageError
from perfloop.observe.mongo_documents import index_for, observed, read, shape_of

PROFILE = {
    "op": "query", "ns": "shop.orders", "millis": 140, "planSummary": "COLLSCAN", "docsExamined": 80_000, "nreturned": 4,
    "command": {"find": "orders", "filter": {"status": "open", "created": {"$gt": {"$date": "2026-01-01"}}, "customer": "ann@example.org"}, "sort": {"amount": -1}},
}  # fmt: skip
LOG = {"msg": "Slow query", "attr": {"type": "command", "ns": "shop.items", "durationMillis": {"$numberLong": "35"}, "planSummary": "IXSCAN { kind: 1 }", "docsExamined": 900, "nreturned": 900,
       "command": {"aggregate": "items", "pipeline": [{"$match": {"kind": 3}}, {"$sort": {"name": 1}}]}}}  # fmt: skip
UNUSED = {"name": "old_1", "key": {"old": 1}, "accesses": {"ops": {"$numberLong": "0"}}}
USED = {"name": "kind_1", "key": {"kind": 1}, "accesses": {"ops": 12}}


def test_equality_then_sort_then_range() -> None:
    assert index_for(PROFILE) == "db.orders.createIndex({status: 1, customer: 1, amount: -1, created: 1})"
    assert shape_of(PROFILE) == "shop.orders find {created, customer, status} sort {amount}"
    assert index_for({"ns": "shop.x", "command": {"find": "x", "filter": {"$or": [{"a": 1}, {"b": 2}]}}}) == ""


def test_profile_log_index_statistics_and_current_operations(tmp_path: Path) -> None:
    file = tmp_path / "documents.json"
    file.write_text("\n".join(json.dumps(document) for document in (PROFILE, PROFILE, LOG, UNUSED, USED, {"waitingForLock": True, "ns": "shop.orders"})))
    seen = observed(read(file), "documents.json")
    first = seen.operations[0]
    assert (first.count, first.total_ms, first.rows_examined, first.no_index) == (2, 280, 160_000, True)
    assert seen.unused_indexes == ("old_1",)
    assert seen.waiting_for_lock == 1
    assert len(seen.suggestions) == 1
    assert "ann@" not in seen.model_dump_json()
    file.write_text(json.dumps([PROFILE]))
    assert len(read(file)) == 1
    file.write_text("{ no json")
    with pytest.raises(UsageError, match="holds no documents"):
        read(file)
