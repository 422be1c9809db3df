"""One lab and many deaths in it: after each, everything must be as before, and the journal and the audit log must say so."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.safety_kill import shim
from perfloop.model.change import ChangeState
from perfloop.store.audit import AuditLog
from perfloop.store.journal import Journal
from services.labs import LABS, Lab, as_text

ROOT = Path(__file__).parents[2]
BACK_MAX_S = 30.0
FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EROFS": errno.EROFS}
YEAR_S = 366 * 86_400


@dataclass
class Campaign:
    """The zygote, the lab in it and the state that every trial must come back to."""

    lab: Lab
    zygote: subprocess.Popen[str]
    scratch: Path
    before: str = ""

    def order(self, state: Path, **fields: Any) -> dict[str, Any]:
        """Sends one order and returns the answer."""
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        lab = self.lab
        full = {"kind": lab.kind, "params": lab.params, "config": lab.config, "base_dir": str(lab.base_dir), "env": lab.env, "state_dir": str(state)}
        self.zygote.stdin.write(json.dumps({**full, "do": "life", "watchdog": "fork", **fields}) + "\n")
        self.zygote.stdin.flush()
        line = self.zygote.stdout.readline()
        if not line:
            raise RuntimeError("the zygote has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def calls(self) -> int:
        """How many boundaries one whole life has."""
        with self.state() as state:
            answer = self.order(state, arm={"mode": "count"})
            assert answer["code"] == 0, answer
            return int(answer["calls"])

    def undo_calls(self) -> int:
        """How many boundaries a recovery has."""
        with self.state() as state:
            self.order(state, arm={"mode": "count"}, stop="measured", kill_watchdog=True)
            return int(self.order(state, do="recover", arm={"mode": "count"})["calls"])

    @contextmanager
    def state(self) -> Iterator[Path]:
        """A state directory of its own."""
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def trial(self, what: str, at: int) -> dict[str, Any]:
        """One death or fault at boundary ``at``; ``ok`` only where everything is as before within the time promised. ``why`` says what is not."""
        with self.state() as state:
            answer = _TRIALS[what](self, state, at)
            problems = self.problems(state, answer)
        row = {
            "kind": self.lab.kind,
            "what": what,
            "at": at,
            "ok": not problems,
            "after_s": answer["after_s"],
            "killed": answer["killed"],
            "why": "; ".join(problems),
        }
        if problems and as_text(self.lab.snapshot()) != self.before:
            raise RuntimeError(json.dumps(row))
        return row

    def problems(self, state: Path, answer: dict[str, Any]) -> list[str]:
        """What is not as it should be; empty where everything is."""
        found = []
        deadline = time.monotonic() + 3.0  # a signal or a reload that is on its way
        while (now := as_text(self.lab.snapshot())) != self.before and time.monotonic() < deadline:
            time.sleep(0.05)
        if now != self.before:
            found.append(f"state {now[:300]}")
        if answer["left"] or answer["after_s"] > BACK_MAX_S:
            found.append(f"it took {answer['after_s']} s")
        journal = Journal(state)
        if open_ := journal.open_entries():
            found.append(f"open: {open_[0].state} {open_[0].error}")
        if images := list(journal.images.iterdir()):
            found.append(f"left behind: {images[0].name}")
        audit = AuditLog(state)
        found += audit.verify()
        lines: dict[str, int] = {}
        for event in audit.entries(1000):
            lines[event.operation_id] = lines.get(event.operation_id, 0) + 1
        found += [f"operation {name} has {count} lines" for name, count in lines.items() if count != 2]
        return found


def _kill(campaign: Campaign, state: Path, at: int, mode: str = "kill", **more: Any) -> dict[str, Any]:
    return campaign.order(state, arm={"mode": mode, "at": at}, **more)


def _torn(campaign: Campaign, state: Path, at: int) -> dict[str, Any]:
    return _kill(campaign, state, at, "torn")


def _spawned(campaign: Campaign, state: Path, at: int) -> dict[str, Any]:
    """With the real watchdog: a new interpreter."""
    return _kill(campaign, state, at, watchdog="spawn")


def _both(campaign: Campaign, state: Path, at: int) -> dict[str, Any]:
    """perfloop and its watchdog are killed; the next command recovers, twice."""
    answer = _kill(campaign, state, at, kill_watchdog=True)
    first = campaign.order(state, do="recover", arm={"mode": "count"})
    campaign.order(state, do="recover", arm={"mode": "count"})
    return answer | {"after_s": answer["after_s"] + first["after_s"], "left": first["left"]}


def _recovery(campaign: Campaign, state: Path, at: int) -> dict[str, Any]:
    """Everything is killed while the change is measured, the recovery is killed at ``at``, and recovers the next time."""
    answer = campaign.order(state, arm={"mode": "count"}, stop="measured", kill_watchdog=True)
    campaign.order(state, do="recover", arm={"mode": "kill", "at": at})
    last = campaign.order(state, do="recover", arm={"mode": "count"})
    return answer | {"after_s": answer["after_s"] + last["after_s"]}


def _fault(name: str, campaign: Campaign, state: Path, at: int) -> dict[str, Any]:
    """From ``at`` on the disk takes nothing more; when it does again, the next command finishes what is open."""
    answer = campaign.order(state, arm={"mode": "fail", "at": at, "errno": FAULTS[name]})
    last = campaign.order(state, do="recover", arm={"mode": "count"})
    return answer | {"after_s": answer["after_s"] + last["after_s"]}


def _clock(offset_s: int, campaign: Campaign, state: Path, at: int) -> dict[str, Any]:
    """The wall clock jumps, and some calls later perfloop dies."""
    return campaign.order(state, arm={"mode": "clock", "at": at, "offset_s": offset_s, "kill_at": at + 25})


def _foreign(campaign: Campaign, state: Path, at: int) -> dict[str, Any]:
    """Somebody else changes the same thing while it is open: left alone and stuck, twice over; put right by hand, it is undone."""
    answer = campaign.order(state, arm={"mode": "count"}, stop="measured", kill_watchdog=True)
    if as_text(campaign.lab.snapshot()) == campaign.before:
        return answer | {"left": True}  # the watchdog was faster
    campaign.lab.meddle()
    for _ in range(2):
        told = campaign.order(state, do="recover", arm={"mode": "count"})
        if told["code"] != 5 or not undecided(state):
            return answer | {"left": True}
    campaign.lab.mend()
    last = campaign.order(state, do="recover", arm={"mode": "count"})
    return answer | {"after_s": answer["after_s"] + last["after_s"]}


_TRIALS: dict[str, Any] = {
    "foreign": _foreign,
    "kill": _kill,
    "torn": _torn,
    "spawned": _spawned,
    "both": _both,
    "recovery": _recovery,
    **{name: (lambda campaign, state, at, name=name: _fault(name, campaign, state, at)) for name in FAULTS},
    "clock ahead": lambda campaign, state, at: _clock(YEAR_S, campaign, state, at),
    "clock back": lambda campaign, state, at: _clock(-YEAR_S, campaign, state, at),
}


@contextmanager
def campaign(kind: str) -> Iterator[Campaign]:
    """The lab of a kind, and a zygote for it."""
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(prefix="pl-lab-") as home,
        tempfile.TemporaryDirectory(prefix="pl-kill-", dir=memory if memory.is_dir() else None) as scratch,
        LABS[kind](Path(home)) as lab,
    ):
        env = {**os.environ, **lab.env, "LD_PRELOAD": str(shim.built()), "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
        zygote = subprocess.Popen(
            [sys.executable, "-m", "bench.safety_kill.zygote"], env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        try:
            assert zygote.stdout.readline() == "ready\n"
            yield Campaign(lab, zygote, Path(scratch), as_text(lab.snapshot()))
        finally:
            zygote.stdin.close()
            zygote.stdout.close()
            zygote.wait()


def undecided(state: Path) -> list[str]:
    """Changes that wait for a person."""
    return [entry.change.id for entry in Journal(state).open_entries() if entry.state == ChangeState.STUCK]
