"""kill -9 while a tap or a quota is put in or is in: the address, the connections and the group are as before, and no process of ours is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from services import Postgres, postgres
from services.tapped import Tapped, tapped

from .conftest import Crash, wait_for


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as server:
        with psycopg.connect(server.admin, autocommit=True) as connection:
            connection.execute("CREATE ROLE desk LOGIN PASSWORD 'hush'")
        yield server


@pytest.fixture
def desk(tmp_path: Path, database: Postgres) -> Iterator[Tapped]:
    with tapped(tmp_path / "desk", database, database.dsn("desk", "hush")) as service:
        yield service


def order(service: Tapped, kind: str, **params: Any) -> dict[str, Any]:
    target = {"url": service.url, "health_path": "/serial?n=1", "restart_command": service.restart_command}
    return {"kind": kind, "dir": str(service.folder), "params": params, "config": {"target": target, "measure": {"pairs_window_s": 1}}}


def taps_of(crash: Crash) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(crash.root) in word for word in process.info["cmdline"] or ()) and "perfloop.wire.tap" in process.info["cmdline"]
    ]


@pytest.mark.parametrize("state", ["note", "applied", "undoing"])
def test_killed_around_a_tap_the_service_speaks_to_its_database_again(crash: Crash, desk: Tapped, state: str) -> None:
    before = desk.file.read_bytes()
    wanted = {**order(desk, "tap", file="app.toml", key="database.url", peer="postgresql"), "die_at": state, "undo": state == "undoing"}
    process, said = crash.start(wanted)
    died_at = crash.dead(process)
    assert process.returncode == -signal.SIGKILL
    entry = crash.undone(said["change"], died_at)
    assert desk.file.read_bytes() == before
    assert desk.ok()
    wait_for(lambda: not taps_of(crash), 10)
    assert entry.change.params["old"] == desk.database
    assert "hush" not in entry.model_dump_json()


def test_a_tap_outlives_perfloop_until_the_watchdog_has_undone_it(crash: Crash, desk: Tapped) -> None:
    process, said = crash.start({**order(desk, "tap", file="app.toml", key="database.url", peer="postgresql"), "hang_s": 60})
    watchdog = crash.measuring(process)
    (tap,) = taps_of(crash)
    os.kill(watchdog, signal.SIGSTOP)
    process.kill()
    died_at = crash.dead(process)
    assert desk.ok()  # through the tap, which nobody holds any more
    assert tap.is_running()
    os.kill(watchdog, signal.SIGCONT)
    wait_for(lambda: not taps_of(crash))
    crash.journal.get(said["change"])
    wait_for(lambda: crash.journal.get(said["change"]).state.value == "undone")  # type: ignore[union-attr]
    assert died_at
    assert desk.ok()


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").parent.is_dir(), reason="needs root and control groups of version 1")
@pytest.mark.parametrize("state", ["note", "verified"])
def test_killed_around_a_quota_the_service_is_where_it_was(crash: Crash, desk: Tapped, state: str) -> None:
    before = Path(f"/proc/{desk.pid}/cgroup").read_text()
    process, said = crash.start({**order(desk, "cpu-quota", pids=[desk.pid], cpu=0.2), "die_at": state})
    died_at = crash.dead(process)
    entry = crash.undone(said["change"], died_at)
    assert Path(f"/proc/{desk.pid}/cgroup").read_text() == before
    assert not Path(entry.change.params["group"]).exists()
    assert desk.ok("/compute?ms=5")


_REDIRECT = """
import json, subprocess, sys, time, psycopg
from pathlib import Path
from perfloop.change.base import ChangeContext
from perfloop.change.kinds import tap_redirect as kind
from perfloop.host.secrets import resolve
from perfloop.model.config import Config
from perfloop.model.finding import Proposal

address, dsn, folder = sys.argv[1:]
context = ChangeContext(base_dir=Path(folder), config=Config(), resolve=resolve, environment="sandbox", image_dir=Path(folder))
old = psycopg.connect(dsn, autocommit=True)
change = kind.plan(Proposal(kind="tap-redirect", title="", params={"address": address, "peer": "postgresql"}), context)
kind.apply(change, context, lambda backend: None)
assert kind.verify(change, context)
tap = kind.tap_of(change, context)
old.execute("SELECT 1")  # stays as it is
before = tap.counters().connections
new = psycopg.connect(dsn, autocommit=True)
tap.set_delay(40)
began = time.monotonic(); new.execute("SELECT 2"); delayed_s = time.monotonic() - began
seen = tap.counters()
kind.undo(change, context)
assert kind.verify_undone(change, context)
new.execute("SELECT 3")  # is not cut off
last = psycopg.connect(dsn, autocommit=True)
last.execute("SELECT 4")
still = tap.counters().connections
new.close()
until = time.monotonic() + 10
while tap.control.exists() and time.monotonic() < until: time.sleep(0.05)
print(json.dumps([before, seen.connections, delayed_s, list(seen.groups), still, tap.control.exists()]))
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root, for a network of its own")
def test_new_connections_are_redirected_by_nft_and_left_alone_afterwards(tmp_path: Path) -> None:
    """In a network namespace of its own, with a server of its own there: the rule is about its loopback only."""
    code = f"""
import subprocess, sys
from pathlib import Path
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from services import postgres
import psycopg
with postgres() as server:
    with psycopg.connect(server.admin, autocommit=True) as connection:
        connection.execute("CREATE ROLE desk LOGIN PASSWORD 'hush'")
    dsn = server.dsn("desk", "hush") + "?sslmode=disable&gssencmode=disable"
    subprocess.run([sys.executable, "-c", {_REDIRECT!r}, f"127.0.0.1:{{server.port}}", dsn, {str(tmp_path)!r}], check=True)
    import time
    time.sleep(0.5)  # until the tap, which has said goodbye, is gone
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert "perfloop" not in tables, tables
"""
    env = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}
    done = subprocess.run(["unshare", "-n", sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    before, connections, delayed_s, groups, still, left = __import__("json").loads(done.stdout.splitlines()[-1])
    assert (before, connections, still, left) == (0, 1, 1, False)
    assert delayed_s >= 0.04
    assert groups == ["SELECT ?"]
