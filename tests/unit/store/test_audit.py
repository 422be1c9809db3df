from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perfloop.errors import UsageError
from perfloop.store import keys, segments
from perfloop.store.audit import AuditLog
from perfloop.store.chain import line_hash

CONTRACT = [
    "timestamp", "user", "change_ticket", "environment", "operation", "command", "outcome", "resources_affected", "rollback_available",
    "rollback_command", "duration_seconds", "error_detail", "performance_impact", "load_test_results",
]  # fmt: skip


def filled(root: Path, operations: int = 3) -> AuditLog:
    audit = AuditLog(root, user="me", environment="production", change_ticket="CHG-1")
    for number in range(operations):
        operation = audit.begin(
            operation="index_creation", command=f"CREATE INDEX i{number};", rollback_command=f"DROP INDEX i{number};", resources=("table:t",)
        )
        audit.end(operation, "success", performance_impact={"improvement_percent": 9.5})
    return audit


def segment(audit: AuditLog) -> Path:
    return segments.files(audit.folder)[-1]


def test_the_lines_have_the_fields_of_the_contract_in_order(tmp_path: Path) -> None:
    audit = filled(tmp_path, 1)
    lines = [json.loads(line) for line in segment(audit).read_text().splitlines()]
    assert [list(line)[: len(CONTRACT)] for line in lines] == [CONTRACT, CONTRACT]
    assert [line["outcome"] for line in lines] == ["in_progress", "success"]
    assert lines[0]["duration_seconds"] is None
    assert lines[1]["duration_seconds"] >= 0
    assert lines[1]["change_ticket"] == "CHG-1"
    assert lines[1]["rollback_available"] is True
    datetime.strptime(lines[1]["timestamp"], "%Y-%m-%dT%H:%M:%SZ")
    assert audit.verify() == ()
    assert audit.head() == lines[1]["hash"]
    assert stat.S_IMODE((audit.folder / "head.json").stat().st_mode) == 0o600
    assert segment(audit).name == f"audit-{datetime.now(UTC):%Y%m%d}-001.jsonl"


def edit(lines: list[str]) -> list[str]:
    return [lines[0], lines[1].replace("9.5", "95.0"), *lines[2:]]


def delete(lines: list[str]) -> list[str]:
    return lines[:2] + lines[3:]


def swap(lines: list[str]) -> list[str]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def truncate(lines: list[str]) -> list[str]:
    return lines[:-1]


def behead(lines: list[str]) -> list[str]:
    return lines[1:]


def tear(lines: list[str]) -> list[str]:
    return [*lines[:-1], lines[-1][:40]]


@pytest.mark.parametrize("tamper", [edit, delete, swap, truncate, behead, tear])
def test_tampering_is_found_and_stays_found_when_the_log_goes_on(tmp_path: Path, tamper: object) -> None:
    audit = filled(tmp_path)
    path = segment(audit)
    path.write_text("".join(tamper(path.read_text().splitlines(keepends=True))))  # type: ignore[operator]
    assert audit.verify() != ()
    filled(tmp_path, 1)
    assert audit.verify() != ()


def test_a_deleted_segment_and_a_deleted_head_are_found(tmp_path: Path) -> None:
    audit = filled(tmp_path)
    (audit.folder / "head.json").unlink()
    assert audit.verify() != ()
    filled(tmp_path, 1)
    assert audit.verify() != ()
    other = filled(tmp_path / "other")
    segment(other).unlink()
    assert other.verify() != ()


def test_a_crash_between_line_and_head_or_in_a_line_is_no_tampering(tmp_path: Path) -> None:
    audit = filled(tmp_path, 1)
    head = (audit.folder / "head.json").read_bytes()
    audit.begin(operation="o", command="c")
    (audit.folder / "head.json").write_bytes(head)  # the crash: the line is there, its head record is not
    assert audit.verify() == ()
    with segment(audit).open("a") as file:
        file.write('{"timestamp": "2025')
    assert audit.verify() == ()
    filled(tmp_path, 1)
    assert audit.verify() == ()
    assert len(audit.entries()) == 5


def test_secrets_are_gone_before_they_are_hashed(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path)
    operation = audit.begin(operation="o", command="psql postgresql://u:geheim@h/d", resources=("x?token=geheim",))
    audit.end(operation, "failure", error_detail="password=geheim refused", load_test_results={"headers": ["Authorization: Bearer geheimgeheim"]})
    assert all(b"geheim" not in path.read_bytes() for path in audit.folder.rglob("*") if path.is_file())
    assert audit.verify() == ()


def test_several_writers_make_one_chain(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from perfloop.store.audit import AuditLog; a = AuditLog(Path({str(tmp_path)!r}));\nfor i in range(10): a.end(a.begin(operation='o', command='c'), 'success')"
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: filled(tmp_path, 2), range(4)))
    assert [child.wait() for child in children] == [0, 0]
    audit = AuditLog(tmp_path)
    assert audit.verify() == ()
    assert [event.sequence for event in audit.entries(1000)] == list(range(1, 57))


def test_an_operation_whose_process_is_gone_gets_its_end_line(tmp_path: Path) -> None:
    code = "import sys, os; from pathlib import Path; from perfloop.store.audit import AuditLog; AuditLog(Path(sys.argv[1])).begin(operation=sys.argv[2], command='c', subject=sys.argv[2]); os._exit(1)"
    for name in ("lost", "undone"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path), name], check=False)
    audit = AuditLog(tmp_path)
    mine = audit.begin(operation="mine", command="c")
    assert len(audit.verify()) == 2
    assert len(audit.close_abandoned(rolled_back=["undone"])) == 2
    assert audit.close_abandoned() == ()
    ended = {event.operation: event for event in audit.entries() if event.outcome != "in_progress"}
    assert ended["lost"].outcome == "failure"
    assert ended["undone"].outcome == "rolled_back"
    assert ended["lost"].error_detail
    audit.end(mine, "success")
    assert audit.verify() == ()


def test_a_power_cut_that_lost_the_records_of_open_operations_leaves_none_without_an_end(tmp_path: Path) -> None:
    audit = filled(tmp_path, 1)
    audit.close_abandoned()
    names = [audit.begin(operation=name, command="c") for name in ("gone", "cut")]
    (audit.folder / "open" / f"{names[0]}.json").unlink()
    (audit.folder / "open" / f"{names[1]}.json").write_text('{"pid"')
    (audit.folder / "boot").write_text("an earlier start of the machine")
    fresh = AuditLog(tmp_path)
    assert set(fresh.close_abandoned()) == set(names)
    assert fresh.close_abandoned() == ()
    ended = {event.operation: event for event in fresh.entries() if event.outcome == "failure"}
    assert set(ended) == {"gone", "cut"}
    assert {event.duration_seconds for event in ended.values()} == {None}
    assert all("the machine ended" in (event.error_detail or "") for event in ended.values())
    assert fresh.verify() == ()


def test_old_segments_go_whole_and_the_chain_still_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_MAX_BYTES", 1500)
    audit = filled(tmp_path, 6)
    old = f"{datetime.now(UTC) - timedelta(days=91):%Y%m%d}"
    files = segments.files(audit.folder)
    assert len(files) > 3
    for path in files[:2]:
        path.rename(path.with_name(path.name.replace(path.name[6:14], old)))
    assert audit.verify() == ()
    assert audit.prune(keep_days=1) == 2  # never less than 90 days
    assert audit.verify() == ()
    filled(tmp_path, 1)
    assert audit.verify() == ()
    segments.files(audit.folder)[0].unlink()
    assert audit.verify() != ()


def test_entries_are_the_newest(tmp_path: Path) -> None:
    assert [event.command for event in filled(tmp_path, 3).entries(2)] == ["CREATE INDEX i2;", "CREATE INDEX i2;"]


def rewritten(audit: AuditLog, at: int) -> None:
    """The chain and the head made anew from a line on, by somebody who has everything but the key."""
    path = segment(audit)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[at]["user"] = "nobody"
    previous = records[at]["previous_hash"]
    for record in records[at:]:
        record["previous_hash"] = previous
        record["hash"] = previous = line_hash(record)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    head = json.loads((audit.folder / "head.json").read_text())
    (audit.folder / "head.json").write_text(json.dumps(head | {"hash": previous, "mac": ""}))


@pytest.mark.parametrize("at", [0, 3, 5])
def test_a_rewrite_without_the_key_is_found_and_stays_found(tmp_path: Path, at: int) -> None:
    audit = filled(tmp_path)
    rewritten(audit, at)
    assert any("without the log's key" in problem for problem in audit.verify())
    filled(tmp_path, 1)
    assert audit.verify() != ()


def test_a_rewrite_that_takes_the_key_away_too_is_found(tmp_path: Path) -> None:
    audit = filled(tmp_path)
    (tmp_path / "audit.key").unlink()
    assert audit.verify() != ()
    filled(tmp_path, 1)
    assert audit.verify() != ()


def test_a_log_set_back_to_an_earlier_state_is_found_by_its_anchor(tmp_path: Path) -> None:
    audit = filled(tmp_path, 2)
    shutil.copytree(audit.folder, tmp_path / "earlier")
    early = audit.anchor()
    filled(tmp_path, 2)
    anchor = audit.anchor()
    assert audit.verify([early, anchor]) == ()
    shutil.rmtree(audit.folder)
    shutil.copytree(tmp_path / "earlier", audit.folder)
    assert audit.verify() == ()  # nothing in it can tell
    assert audit.verify([early]) == ()
    assert any("anchored elsewhere" in problem for problem in audit.verify([anchor]))
    filled(tmp_path, 2)  # as long as it was, and other lines
    assert any("anchored elsewhere" in problem for problem in audit.verify([anchor]))
    with pytest.raises(UsageError):
        audit.verify(["no anchor"])


def test_a_log_from_before_there_was_a_key_goes_on_and_is_sealed_from_there(tmp_path: Path) -> None:
    audit = filled(tmp_path)
    rewritten(audit, 0)  # what an older perfloop would have written: a chain without seals
    path = segment(audit)
    path.write_text("".join(json.dumps({k: v for k, v in json.loads(line).items() if k != "mac"}) + "\n" for line in path.read_text().splitlines()))
    head = json.loads((audit.folder / "head.json").read_text())
    (audit.folder / "head.json").write_text(
        json.dumps({k: v for k, v in head.items() if k not in ("mac", "sealed_from")} | {"size_bytes": path.stat().st_size})
    )
    (tmp_path / "audit.key").unlink()
    assert audit.verify() == ()
    filled(tmp_path, 1)
    assert audit.verify() == ()
    rewritten(audit, 7)
    assert audit.verify() != ()


def test_an_anchor_can_be_signed_for_others(tmp_path: Path) -> None:
    audit = filled(tmp_path)
    assert audit.signed() == {}
    public = keys.make_signing_key(tmp_path)
    signed = audit.signed()
    assert signed["public_key"] == public
    assert signed["anchor"] == audit.anchor()
    assert keys.check_signature(signed["anchor"], signed["signature"], public)
    assert not keys.check_signature(signed["anchor"][:-1] + "x", signed["signature"], public)
    assert stat.S_IMODE((tmp_path / "audit-signing.pem").stat().st_mode) == 0o600
    with pytest.raises(UsageError):
        keys.make_signing_key(tmp_path)


def test_half_a_record_of_an_open_operation_is_no_operation(tmp_path: Path) -> None:
    audit = filled(tmp_path, 1)
    (audit.folder / "open" / "op-torn.json").write_text('{"pid": 1')
    assert audit.close_abandoned() == ()
    assert list((audit.folder / "open").iterdir()) == []
    assert audit.verify() == ()
