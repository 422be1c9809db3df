"""Every kind on a real thing: read, plan, apply, verify, undo, verify the undo; a stale plan and a foreign edit are refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from perfloop.change.base import ChangeContext
from perfloop.errors import ChangeRefused, UndoFailed
from perfloop.host.secrets import resolve
from perfloop.loop import plugins
from perfloop.model.config import Config
from perfloop.model.finding import Proposal
from services.labs import LABS, Lab, as_text

NEEDS_ROOT = ("sysctl", "cgroup-limit")


def context_of(lab: Lab, folder: Path) -> ChangeContext:
    images = folder / "images"
    images.mkdir(exist_ok=True)
    return ChangeContext(base_dir=lab.base_dir, config=Config.model_validate(lab.config), resolve=resolve, environment="sandbox", image_dir=images)


@pytest.mark.parametrize("name", list(LABS))
def test_a_kind_keeps_its_promises(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in NEEDS_ROOT and os.geteuid():
        pytest.skip("only root may change that")
    home = tmp_path / "lab"
    home.mkdir()
    with LABS[name](home) as lab:
        for key, value in lab.env.items():
            monkeypatch.setenv(key, value)
        kind = plugins.load("change kind")[lab.kind]
        where = context_of(lab, tmp_path)
        before = as_text(lab.snapshot())
        change = kind.plan(Proposal(kind=lab.kind, title="", params=lab.params), where)
        assert as_text(lab.snapshot()) == before  # planning changes nothing
        assert change.diff
        assert change.risk
        assert change.reach
        assert change.undo_commands
        assert change.apply_commands
        assert change.resources
        assert kind.read(change, where) == change.before
        notes: list[dict[str, Any]] = []

        kind.undo(change, where)  # never applied: nothing to do
        kind.apply(change, where, notes.append)
        assert notes
        assert kind.verify(change, where)
        assert as_text(lab.snapshot()) != before
        with pytest.raises(ChangeRefused):
            kind.apply(change, where, notes.append)  # the live value is not the one of the plan
        for _ in range(2):
            kind.undo(change, where)
            assert kind.verify_undone(change, where)
        assert as_text(lab.snapshot()) == before

        kind.apply(change, where, notes.append)
        lab.meddle()
        theirs = running(lab)
        with pytest.raises(UndoFailed) as stuck:
            kind.undo(change, where)
        assert stuck.value.commands
        assert running(lab) == theirs  # what is not ours is left alone
        lab.mend()
        kind.undo(change, where)
        assert as_text(lab.snapshot()) == before


def running(lab: Lab) -> str:
    """Without the files: where a setting has two states, the one that is still ours is put back."""
    return as_text({key: value for key, value in lab.snapshot().items() if not key.startswith(("/", "beside"))})
