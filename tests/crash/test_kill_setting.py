"""kill -9 at every state of the journal, with a setting of a real service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import Any

import pytest

from perfloop.errors import UndoFailed
from perfloop.loop.recover import recover, settle, warn_others
from perfloop.model.change import ChangeState
from perfloop.store.audit import AuditLog
from perfloop.store.forward import Forwarder

from .conftest import Crash, Service, wait_for


@pytest.mark.parametrize("state", ["journalled", "applying", "note", "applied", "verified", "measured", "undoing"])
def test_killed_at_a_state_everything_is_as_before(crash: Crash, service: Service, state: str) -> None:
    before, mode = service.file.read_bytes(), service.file.stat().st_mode
    process, said = crash.start({**service.order, "die_at": state, "undo": state == "undoing"})
    died_at = crash.dead(process)
    assert process.returncode == -signal.SIGKILL
    entry = crash.undone(said["change"], died_at)
    assert service.file.read_bytes() == before
    assert service.file.stat().st_mode == mode
    assert service.answers() == "5"
    assert b"not for logs" not in entry.model_dump_json().encode()
    assert sorted(path.name for path in service.folder.iterdir()) == ["app.toml", "pid"]


def test_killed_while_the_restart_runs_the_restart_is_waited_for(crash: Crash, service: Service) -> None:
    before = service.file.read_bytes()
    (service.folder / "slow").write_text("1.5")
    process, said = crash.start(service.order)
    wait_for(lambda: service.file.read_bytes() != before)
    time.sleep(0.3)  # the restart command has stopped the old process and sleeps
    process.kill()
    crash.undone(said["change"], crash.dead(process))
    assert service.file.read_bytes() == before
    assert service.answers() == "5"


def test_kept_stays_and_its_audit_line_has_the_figures(crash: Crash, service: Service) -> None:
    process, said = crash.start({**service.order, "toggle": True})
    assert process.wait(60) == 0, process.stderr.read() if process.stderr else ""
    assert crash.journal.get(said["change"]).state == ChangeState.KEPT  # type: ignore[union-attr]
    assert service.answers() == "20"
    kept = [event for event in AuditLog(crash.root).entries() if event.performance_impact]
    assert [event.outcome for event in kept] == ["success"]
    assert kept[0].performance_impact["improvement_percent"] == 50.0  # type: ignore[index]
    crash.check_audit()
    assert process.stdout is not None
    watchdog = json.loads(process.stdout.readline())["watchdog"]
    wait_for(lambda: _gone(watchdog))


@pytest.mark.parametrize(("environment", "toggles"), [("staging", 1), ("sandbox", 1)])
def test_nothing_is_kept_whose_undo_was_not_tried(crash: Crash, service: Service, environment: str, toggles: int) -> None:
    process, said = crash.start({**service.order, "environment": environment})
    assert process.wait(60) == 0, process.stderr.read() if process.stderr else ""
    states = [state for state, _, _ in crash.journal.history(said["change"])]
    assert states.count(ChangeState.UNDONE) == toggles
    assert states[-1] == ChangeState.KEPT
    assert service.answers() == "20"
    if environment == "staging":  # before it was measured
        assert states.index(ChangeState.UNDONE) < states.index(ChangeState.MEASURED)
    crash.check_audit()


def test_interrupted_while_measuring_it_is_undone_and_a_second_interrupt_does_not_break_that(crash: Crash, service: Service) -> None:
    before = service.file.read_bytes()
    process, said = crash.start({**service.order, "hang_s": 60})
    crash.measuring(process)
    (service.folder / "slow").write_text("1")
    process.send_signal(signal.SIGINT)
    wait_for(lambda: crash.journal.get(said["change"]).state == ChangeState.UNDOING)  # type: ignore[union-attr]
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr is not None
    assert "finished first" in process.stderr.read()
    assert crash.journal.get(said["change"]).state == ChangeState.UNDONE  # type: ignore[union-attr]
    assert service.file.read_bytes() == before
    crash.check_audit()


def test_sigterm_undoes(crash: Crash, service: Service) -> None:
    process, said = crash.start({**service.order, "hang_s": 60})
    crash.measuring(process)
    process.terminate()
    assert process.wait(60) == 130
    assert crash.journal.get(said["change"]).state == ChangeState.UNDONE  # type: ignore[union-attr]
    assert service.answers() == "5"


def test_a_hung_perfloop_loses_its_lease_and_cannot_keep_the_change(crash: Crash, service: Service) -> None:
    before = service.file.read_bytes()
    process, said = crash.start({**service.order, "hang_s": 4})
    crash.measuring(process)
    crash.journal.renew(said["change"], 0.2)  # as if it had not renewed for a minute
    wait_for(lambda: crash.journal.get(said["change"]).state == ChangeState.UNDONE)  # type: ignore[union-attr]
    assert process.wait(60) == 1  # refused: somebody else has undone it
    assert service.file.read_bytes() == before
    crash.check_audit()


def test_watchdog_killed_too_then_the_next_command_undoes_it_once(crash: Crash, service: Service) -> None:
    before = service.file.read_bytes()
    process, _ = crash.start({**service.order, "hang_s": 60})
    os.kill(crash.measuring(process), signal.SIGKILL)
    process.kill()
    crash.dead(process)
    assert service.file.read_bytes() != before
    journal, audit = crash.journal, AuditLog(crash.root)
    url = service.order["config"]["target"]["url"]
    assert len(warn_others(journal, "http://127.0.0.1:9")) == 1
    assert warn_others(journal, url) == []
    assert recover("http://127.0.0.1:9", journal=journal, audit=audit) == []
    assert len(recover(url + "/", journal=journal, audit=audit)) == 1
    assert recover(url, journal=journal, audit=audit) == []
    assert service.file.read_bytes() == before
    assert service.answers() == "5"
    crash.check_audit()


def test_watchdog_killed_alone_is_replaced_before_the_next_effect(crash: Crash, service: Service) -> None:
    process, said = crash.start({**service.order, "hang_s": 60})
    os.kill(crash.measuring(process), signal.SIGKILL)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert crash.journal.get(said["change"]).state == ChangeState.UNDONE  # type: ignore[union-attr]
    assert service.answers() == "5"


def test_a_foreign_edit_is_never_overwritten(crash: Crash, service: Service) -> None:
    process, said = crash.start({**service.order, "hang_s": 60})
    crash.measuring(process)
    theirs = service.file.read_text().replace("size = 20", "size = 33")
    service.file.write_text(theirs)
    process.kill()
    entry = crash.undone(said["change"], crash.dead(process), state=ChangeState.STUCK)
    assert service.file.read_text() == theirs
    assert "33" in entry.error
    waiting = Forwarder(crash.root).waiting()
    assert [event["kind"] for event in waiting] == ["undo-failed"]
    with pytest.raises(UndoFailed) as stuck:
        recover(entry.target_url, journal=crash.journal, audit=AuditLog(crash.root))
    assert stuck.value.commands
    assert stuck.value.exit_code == 5
    settle(said["change"], journal=crash.journal, audit=AuditLog(crash.root), reason="33 is right")
    assert recover(entry.target_url, journal=crash.journal, audit=AuditLog(crash.root)) == []
    crash.check_audit()


def test_a_foreign_edit_of_another_key_survives_the_undo(crash: Crash, service: Service) -> None:
    before = service.file.read_text()
    process, said = crash.start({**service.order, "hang_s": 60})
    crash.measuring(process)
    service.file.write_text(service.file.read_text().replace("not for logs", "rotated"))
    process.kill()
    crash.undone(said["change"], crash.dead(process))
    assert service.file.read_text() == before.replace("not for logs", "rotated")


def test_one_perfloop_at_a_time(crash: Crash, service: Service) -> None:
    process, _ = crash.start({**service.order, "hang_s": 60})
    crash.measuring(process)
    order: dict[str, Any] = {**service.order, "params": {"setting": "pool", "value": 30}}
    second, _ = crash.start(order)
    assert second.wait(60) == 1
    assert second.stderr is not None
    assert "is in use" in second.stderr.read()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert service.answers() == "5"


def _gone(pid: int) -> bool:
    return subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()[:1] in ("", "Z")
