from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perfloop.change.base import ChangeContext
from perfloop.change.kinds import app_setting, code
from perfloop.errors import ChangeRefused, UndoFailed
from perfloop.model.change import Safety
from perfloop.model.config import Config
from perfloop.model.finding import Proposal


def context(folder: Path, *, environment: str = "sandbox", changes: dict[str, Any] | None = None, restart: str = "true", **setting: Any) -> ChangeContext:
    (folder / "images").mkdir(exist_ok=True)
    if not (folder / "app.toml").exists():
        (folder / "app.toml").write_text("[pool]\nsize = 5 # c\nsecret = 'geheim'\n")
    setting = {"id": "pool", "file": "app.toml", "key": "pool.size", "min": 2, "max": 30, "restart": False, **setting}
    config = Config.model_validate({"target": {"settings": [setting], "restart_command": restart}, "changes": changes or {}})
    return ChangeContext(base_dir=folder, config=config, resolve=str, environment=environment, image_dir=folder / "images")


def proposal(**params: Any) -> Proposal:
    return Proposal(kind="app-setting", title="", params={"setting": "pool", **params})


def test_a_plan_says_what_how_and_back(tmp_path: Path) -> None:
    change = app_setting.plan(proposal(value=20), context(tmp_path))
    assert (change.before, change.after) == ({"pool.size": 5}, {"pool.size": 20})
    assert "-size = 5 # c" in change.diff
    assert "+size = 20 # c" in change.diff
    assert "geheim" not in change.model_dump_json()
    assert change.undo_commands
    assert change.safety == Safety.SAFE


@pytest.mark.parametrize(
    ("params", "expected"), [({"factor": 4}, 20), ({"factor": 100}, 30), ({"factor": 4, "max": 12.5}, 12), ({"value": 7.0}, 7), ({"factor": 0.1}, 2)]
)
def test_the_new_value_keeps_its_bounds(tmp_path: Path, params: dict[str, Any], expected: int) -> None:
    assert app_setting.plan(proposal(**params), context(tmp_path)).after == {"pool.size": expected}


@pytest.mark.parametrize(
    "params", [{"value": 31}, {"value": 1}, {"value": 5}, {"value": "20"}, {"value": 2, "setting": "none"}, {"factor": 4, "max": 5}, {"factor": 4, "max": 3}]
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, params: dict[str, Any]) -> None:
    with pytest.raises(ChangeRefused):
        app_setting.plan(proposal(**params), context(tmp_path))


@pytest.mark.parametrize(
    ("environment", "changes", "safety"), [("sandbox", {}, Safety.SAFE), ("staging", {}, Safety.ASK), ("production", {"restart": True}, Safety.SAFE)]
)
def test_a_restart_asks_unless_it_is_allowed(tmp_path: Path, environment: str, changes: dict[str, Any], safety: Safety) -> None:
    assert app_setting.plan(proposal(value=20), context(tmp_path, environment=environment, changes=changes, restart=True and "true")).safety == Safety.SAFE
    with_restart = context(tmp_path, environment=environment, changes=changes)
    setting = with_restart.config.target.settings[0].with_(restart=True)
    config = with_restart.config.with_(target=with_restart.config.target.with_(settings=(setting,)))
    made = app_setting.plan(proposal(value=20), ChangeContext(tmp_path, config, str, environment, tmp_path / "images"))
    assert made.safety == safety
    assert made.restarts
    without = config.with_(target=config.target.with_(restart_command=""))
    with pytest.raises(ChangeRefused, match="none is configured"):
        app_setting.plan(proposal(value=20), ChangeContext(tmp_path, without, str, environment))


def test_apply_and_undo_are_byte_for_byte_and_may_be_repeated(tmp_path: Path) -> None:
    where = context(tmp_path)
    file = tmp_path / "app.toml"
    file.chmod(0o604)
    before = file.read_bytes()
    change = app_setting.plan(proposal(value=20), where)
    notes: list[dict[str, Any]] = []
    app_setting.apply(change, where, notes.append)
    assert app_setting.verify(change, where)
    assert len(notes) == 1
    assert "geheim" not in str(notes)
    for _ in range(2):
        app_setting.undo(change, where)
        assert app_setting.verify_undone(change, where)
    assert file.read_bytes() == before
    assert file.stat().st_mode & 0o777 == 0o604
    assert not app_setting.verify(change, where)


def test_a_value_that_moved_since_the_plan_is_not_touched(tmp_path: Path) -> None:
    where = context(tmp_path)
    change = app_setting.plan(proposal(value=20), where)
    (tmp_path / "app.toml").write_text("[pool]\nsize = 6\n")
    with pytest.raises(ChangeRefused) as refused:
        app_setting.apply(change, where, lambda note: None)
    assert "moved" in refused.value.why
    with pytest.raises(UndoFailed) as stuck:
        app_setting.undo(change, where)
    assert stuck.value.commands
    assert (tmp_path / "app.toml").read_text() == "[pool]\nsize = 6\n"


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text("[pool]\nsize = 5\n")
    (tmp_path / "app.toml").symlink_to("real.toml")
    where = context(tmp_path)
    change = app_setting.plan(proposal(value=9), where)
    app_setting.apply(change, where, lambda note: None)
    assert (tmp_path / "app.toml").is_symlink()
    assert "size = 9" in (tmp_path / "real.toml").read_text()


def test_a_failing_restart_is_a_refusal_and_undone_is_not_claimed(tmp_path: Path) -> None:
    where = context(tmp_path, restart="false")
    setting = where.config.target.settings[0].with_(restart=True)
    where = ChangeContext(tmp_path, where.config.with_(target=where.config.target.with_(settings=(setting,))), str, "sandbox", tmp_path / "images")
    change = app_setting.plan(proposal(value=20), where)
    with pytest.raises(ChangeRefused, match="did not come back"):
        app_setting.apply(change, where, lambda note: None)
    with pytest.raises(UndoFailed):
        app_setting.undo(change, where)
    assert "size = 5 # c" in (tmp_path / "app.toml").read_text()


def test_code_is_shown_and_never_applied(tmp_path: Path) -> None:
    where = context(tmp_path)
    change = code.plan(Proposal(kind="code", title="join", params={"file": "a.py", "line": 3, "current": "for x in xs:", "instead": "rows = join()"}), where)
    assert change.safety == Safety.SHOW
    assert change.diff.splitlines() == ["a.py:3", "-for x in xs:", "+rows = join()"]
    with pytest.raises(ChangeRefused):
        code.apply(change, where, lambda note: None)
