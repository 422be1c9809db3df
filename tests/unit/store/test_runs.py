from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from perfloop.errors import StorageError, UsageError
from perfloop.model.change import Plan
from perfloop.model.evidence import Evidence
from perfloop.model.result import RunResult
from perfloop.model.target import Environment, Target
from perfloop.store import paths
from perfloop.store.runs import RunStore

TARGET = Target(name="t", url="http://127.0.0.1:1", host="127.0.0.1", port=1, local=True, environment=Environment.SANDBOX)


def saved(store: RunStore, **fields: object) -> str:
    run_id = store.create("check")
    store.save_result(RunResult(kind="check", run_id=run_id, started_at="now", target=TARGET).with_(**fields))
    return run_id


def test_what_was_saved_is_found_by_id_prefix_last_and_baseline(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    first = saved(store, state="done")
    second = saved(store, state="done", ok=False)
    store.create("check")  # nothing saved yet: never "last"
    store.set_baseline("main", first)
    assert store.load_result("last").run_id == second
    assert store.load_result("baseline:main").run_id == first
    assert store.find(second[: len(second) - 1]) == second or len(second) == 0
    rows = store.list_runs()
    assert [row.ok for row in rows] == [None, False, True]
    assert rows[2].baselines == ("main",)
    store.drop_baseline("main")
    with pytest.raises(UsageError):
        store.load_result("baseline:main")


def test_evidence_and_plans(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    run_id = saved(store)
    with pytest.raises(UsageError, match="no evidence"):
        store.load_evidence(run_id)
    for number in (1, 2, 10):
        store.save_evidence(run_id, f"evidence-{number}", Evidence(target=TARGET, extra={"look": number}))
    assert store.load_evidence("last").extra == {"look": 10}
    assert store.load_evidence("last", "evidence-2").extra == {"look": 2}
    plan = Plan(id=f"plan-{run_id}", run_id=run_id, created_at="now", target_url="u", changes=())
    store.save_plan(plan)
    assert store.load_plan(run_id) == store.load_plan(plan.id) == store.load_plan(str(store.path(run_id) / "plan.json")) == plan


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a" * 101])
def test_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    store = RunStore(tmp_path)
    run_id = saved(store)
    with pytest.raises(UsageError):
        store.save_file(run_id, name, b"")
    with pytest.raises(UsageError):
        store.load_result(name)


def test_a_newer_or_damaged_run_is_refused(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    path = store.path(saved(store)) / "run.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"schema_version": 99}))
    with pytest.raises(StorageError, match="newer"):
        store.load_result("last")
    path.write_text(json.dumps(fields)[:-20])
    with pytest.raises(StorageError, match="cannot be read"):
        store.load_result("last")
    path.write_text("[]")
    with pytest.raises(StorageError, match="cannot be read"):
        store.load_result("last")


def test_retention_deletes_the_oldest_but_no_baseline_and_not_the_newest(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    runs = [saved(store) for _ in range(5)]
    store.set_baseline("keep", runs[0])
    assert store.retain(2**30, 3) == tuple(runs[1:3])
    assert store.retain(1, 100) == (runs[3],)
    assert {row.run_id for row in store.list_runs()} == {runs[0], runs[4]}
    assert {path.name for path in (store.root / "runs").iterdir()} == {runs[0], runs[4]}


def test_space_is_asked_for_before_anything_runs(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.check_writable(1)
    assert (tmp_path / ".perfloop" / ".gitignore").read_text() == "*\n"
    with pytest.raises(StorageError, match="not enough space"):
        store.check_writable(2**62)
    assert not [path for path in store.root.iterdir() if path.name.startswith(".probe")]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        RunStore(tmp_path / "file").check_writable()


FULL = """
import resource, sys
from pathlib import Path
from perfloop.errors import StorageError
from perfloop.store.runs import RunStore
store = RunStore(Path(sys.argv[1]))
result = store.load_result("last")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    if sys.argv[3] == "early":
        store.check_writable(1)
    else:
        store.save_result(result.with_(notes=("x" * 100_000,)))
except StorageError as error:
    assert error.fix and error.exit_code == 3
    print("refused")
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_full_disk_is_said_and_the_last_saved_result_stays_readable(tmp_path: Path, when: str) -> None:
    store = RunStore(tmp_path)
    run_id = saved(store, notes=("kept",))
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path), "5000", when], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr
    assert store.load_result(run_id).notes == ("kept",)
    assert not list(store.path(run_id).glob("*.new"))


def test_the_state_directory_is_where_it_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFLOOP_STATE_DIR", str(tmp_path / "s"))
    assert paths.state_dir() == tmp_path / "s"
    monkeypatch.delenv("PERFLOOP_STATE_DIR")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "x"))
    assert paths.default_state_dir() == tmp_path / "x" / "perfloop"
