"""Limits that no change may break, on real servers: refused before anything of it is made."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from perfloop.change.base import ChangeContext, new_id
from perfloop.change.hard_limits import broken_limit, postgres_bytes
from perfloop.change.kinds import config_file, nginx_setting, postgres_setting, redis_setting
from perfloop.errors import ChangeRefused
from perfloop.host import machine
from perfloop.loop.guard import Guard
from perfloop.model.change import Change
from perfloop.model.config import Config
from perfloop.model.finding import Proposal
from perfloop.store.audit import AuditLog
from perfloop.store.journal import Journal
from services.nginx import nginx
from services.postgres import postgres
from services.redis import redis_server

MIB = 2**20


@pytest.fixture
def context(tmp_path: Path) -> ChangeContext:
    return ChangeContext(tmp_path, Config(), lambda reference: os.environ[reference.removeprefix("env:")], "sandbox")


def test_the_memory_of_all_connections_is_counted(context: ChangeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"shared_buffers": 128 * MIB, "work_mem": 4 * MIB, "maintenance_work_mem": 64 * MIB, "hash_mem_multiplier": 2.0, "max_connections": 100.0,
                "autovacuum_max_workers": 3.0, "wal_buffers": 4 * MIB, "temp_buffers": 8 * MIB}  # fmt: skip
    assert postgres_bytes(settings) == (128 + 4 + 100 * (8 + 8) + 192) * MIB
    with postgres() as server:
        monkeypatch.setenv("LIMITS_PG", server.admin)

        def change(name: str, value: str) -> Change:
            return postgres_setting.plan(
                Proposal(kind="postgres-setting", title="", params={"name": name, "value": value, "dsn_ref": "env:LIMITS_PG"}), context
            )

        assert broken_limit(change("work_mem", "5MB"), context) == ""
        assert broken_limit(change("work_mem", "64kB"), context) == ""
        assert broken_limit(change("random_page_cost", "1.1"), context) == ""
        huge = change("work_mem", f"{machine.memory()['MemTotal'] // 50 // MIB}MB")
        assert "100 connections" in broken_limit(huge, context)
        guard = Guard(Journal(context.base_dir / "state"), AuditLog(context.base_dir / "state"), {"postgres-setting": postgres_setting}, context, Config())
        with guard.open(huge, run_id="r", target_url="http://127.0.0.1:1") as opened, pytest.raises(ChangeRefused, match="not applied"):
            opened.apply()
        assert postgres_setting.read(huge, context) == huge.before
        assert not any(event.operation == "setting_change" for event in guard.audit.entries())
        monkeypatch.setenv("LIMITS_PG", f"postgresql://postgres@127.0.0.1:{server.port + 1}/postgres")
        assert "cannot be told" in broken_limit(huge, context)


def test_redis_keeps_what_it_holds_and_never_takes_all_memory(context: ChangeContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_server(tmp_path) as server:
        monkeypatch.setenv("LIMITS_REDIS", f"redis://127.0.0.1:{server.port}/0")

        def broken(value: str) -> str:
            params = {"name": "maxmemory", "value": value, "dsn_ref": "env:LIMITS_REDIS"}
            return broken_limit(redis_setting.plan(Proposal(kind="redis-setting", title="", params=params), context), context)

        assert broken("100mb") == ""
        assert "evicted" in broken("1kb")
        assert "above 90%" in broken(str(machine.memory()["MemTotal"]))


def test_nginx_needs_two_descriptors_a_connection(context: ChangeContext, tmp_path: Path) -> None:
    with nginx(tmp_path) as server:
        where = {"conf": str(tmp_path / "nginx.conf"), "pid_file": str(tmp_path / "nginx.pid")}

        def broken(connections: int) -> str:
            params = {"key": "events.worker_connections", "value": str(connections), **where}
            return broken_limit(nginx_setting.plan(Proposal(kind="nginx-setting", title="", params=params), context), context)

        assert server.pid
        assert broken(100) == ""
        assert "would need 20000000" in broken(10_000_000)


def test_workers_must_fit_into_the_memory(context: ChangeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    with subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"], stdin=subprocess.PIPE
    ) as process:
        change = Change(id=new_id(), kind="workers", title="", params={"master": process.pid}, before={"workers": 1}, after={"workers": 4})
        whole = machine.memory()
        assert broken_limit(change, context) == ""
        monkeypatch.setattr("perfloop.change.hard_limits.machine.memory", lambda: {**whole, "MemAvailable": whole["MemTotal"] // 20})
        assert "with 4 workers" in broken_limit(change, context)
        assert process.stdin is not None
        process.stdin.close()


def test_a_port_must_be_free(context: ChangeContext, tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text("port = 1\nsupport = 1\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        def broken(key: str) -> str:
            return broken_limit(
                config_file.plan(Proposal(kind="config-file", title="", params={"file": "app.toml", "key": key, "value": port}), context), context
            )

        assert broken("port") == f"port {port} is in use"
        assert broken("support") == ""
