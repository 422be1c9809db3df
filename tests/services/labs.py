"""One real thing to change for each kind of change: with a proposal, everything that can be seen of its state, and a way to meddle with it.

``with LABS["redis-setting"](folder) as lab:`` starts what is needed; tests and the safety bench apply, undo, kill and compare.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfloop.change.kinds import nginx_setting
from services.mariadb import mariadb
from services.nginx import nginx
from services.postgres import postgres
from services.server import free_port, program, started

Snapshot = dict[str, Any]


@dataclass
class Lab:
    """``snapshot`` tells all of the state that the change could touch; ``meddle`` makes somebody else's edit of the very thing that is changed, and
    ``mend`` takes that edit back. ``env`` are the variables that the proposal's references name."""

    kind: str
    params: dict[str, Any]
    snapshot: Callable[[], Snapshot]
    meddle: Callable[[], None]
    mend: Callable[[], None]
    env: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    base_dir: Path = Path()


def file_state(*paths: Path) -> Snapshot:
    """Bytes, mode and owner of files (None: absent), and what lies beside them."""
    state: Snapshot = {}
    for path in paths:
        info = path.lstat() if os.path.lexists(path) else None
        state[str(path)] = None if info is None else [path.read_bytes().hex(), info.st_mode, info.st_uid, info.st_gid]
        state[f"beside {path}"] = sorted(entry.name for entry in path.parent.iterdir() if entry.name.startswith("."))
    return state


def _edit(path: Path, old: str, new: str) -> Callable[[], None]:
    def edit() -> None:
        path.write_text(path.read_text().replace(old, new))

    return edit


@contextmanager
def config_file(folder: Path) -> Iterator[Lab]:
    """A YAML file with comments that nothing reads but by looking."""
    path = folder / "service.yaml"
    path.write_text("# the service\npool:\n    size:  5   # connections\n    name: 'main'\nlist: [1, 2]\n")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1234, 1234)
    yield Lab(
        "config-file",
        {"file": path.name, "key": "pool.size", "value": 20},
        lambda: file_state(path),
        _edit(path, "20   #", "33   #"),
        _edit(path, "33   #", "20   #"),
        base_dir=folder,
    )


@contextmanager
def nginx_lab(folder: Path) -> Iterator[Lab]:
    """nginx with a directive to set that was absent; the workers' answers tell which configuration they run."""
    folder.chmod(0o755)
    with nginx(folder, server='location / { return 200 "$pid $sent_http_x_lab\\n"; }', workers=1) as server:
        path = folder / "nginx.conf"
        path.chmod(0o644)

        def snapshot() -> Snapshot:
            # a worker is older than the file unless it has read it again since: what it runs is what stands there
            running = nginx_setting.workers(server.pid)
            boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
            fresh = all(boot + started_s >= path.stat().st_mtime - 0.5 for started_s in running.values())
            return {**file_state(path), "workers": len(running), "workers run this file": fresh}

        yield Lab(
            "nginx-setting",
            {"key": "http.keepalive_timeout", "value": "11s", "conf": str(path), "pid_file": str(folder / "nginx.pid"), "nginx": program("nginx")},
            snapshot,
            _edit(path, "keepalive_timeout 11s", "keepalive_timeout 13s"),
            _edit(path, "keepalive_timeout 13s", "keepalive_timeout 11s"),
            base_dir=folder,
            config={"target": {"url": f"http://{server.host}:{server.port}", "health_path": "/"}},
        )


@contextmanager
def redis_lab(folder: Path) -> Iterator[Lab]:
    """Redis with a configuration file: running value and file are two states."""
    import redis

    path = folder / "redis.conf"
    path.write_text('# cache\nsave ""\nmaxmemory-samples 7 \nhz 10\n')
    port = free_port()
    argv = [program("redis-server"), str(path), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    with started("redis", argv, port, folder):
        client = redis.Redis(port=port, decode_responses=True)

        yield Lab(
            "redis-setting",
            {"name": "maxmemory-samples", "value": "10", "dsn_ref": "env:LAB_REDIS", "persist": True},
            lambda: {**file_state(path), **client.config_get("maxmemory-samples")},
            lambda: client.config_set("maxmemory-samples", "9"),
            lambda: client.config_set("maxmemory-samples", "10"),
            env={"LAB_REDIS": f"redis://127.0.0.1:{port}/0"},
            base_dir=folder,
        )
        client.close()


@contextmanager
def mariadb_lab(folder: Path) -> Iterator[Lab]:
    """MariaDB and a global variable."""
    import pymysql

    with mariadb(folder) as server:
        connection = pymysql.connect(unix_socket=str(server.socket), user="root", autocommit=True)

        def run(sql: str) -> Any:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall()

        yield Lab(
            "mysql-setting",
            {"name": "table_open_cache", "value": "3000", "dsn_ref": "env:LAB_MYSQL"},
            lambda: {"value": run("SELECT @@GLOBAL.table_open_cache")[0][0]},
            lambda: run("SET GLOBAL table_open_cache = 2500"),
            lambda: run("SET GLOBAL table_open_cache = 3000"),
            env={"LAB_MYSQL": f"mariadb://root@localhost:3306/?unix_socket={server.socket}"},
            base_dir=folder,
        )
        connection.close()


@contextmanager
def postgres_lab(folder: Path) -> Iterator[Lab]:
    """PostgreSQL and a setting that was unset in postgresql.auto.conf; another one stands there."""
    import psycopg

    with postgres() as server:
        connection = psycopg.connect(server.admin, autocommit=True)
        connection.execute("ALTER SYSTEM SET deadlock_timeout = '1500ms'")
        connection.execute("SELECT pg_reload_conf()")
        auto = server.folder / "postgresql.auto.conf"

        def snapshot() -> Snapshot:
            with psycopg.connect(server.admin, autocommit=True) as fresh:
                rows = fresh.execute("SELECT name, setting, pending_restart FROM pg_settings WHERE name IN ('work_mem', 'deadlock_timeout')").fetchall()
            return {"file": auto.read_bytes().hex(), "running": sorted(rows)}

        yield Lab(
            "postgres-setting",
            {"name": "work_mem", "value": "17MB", "dsn_ref": "env:LAB_PG"},
            snapshot,
            lambda: connection.execute("ALTER SYSTEM SET work_mem = '19MB'") and None,
            lambda: connection.execute("ALTER SYSTEM SET work_mem = '17MB'") and None,
            env={"LAB_PG": server.admin},
            base_dir=folder,
        )
        connection.close()


@contextmanager
def index_lab(folder: Path) -> Iterator[Lab]:
    """PostgreSQL and a table to index."""
    import psycopg

    with postgres("autovacuum = off") as server:
        connection = psycopg.connect(server.admin, autocommit=True)
        connection.execute("CREATE TABLE big AS SELECT i AS id, i % 100 AS a FROM generate_series(1, 5000) i")
        connection.execute("ANALYZE big")

        def indexes() -> Snapshot:
            rows = connection.execute("SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid = 'big'::regclass ORDER BY 1").fetchall()
            busy = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'perfloop:chg%'").fetchone()
            return {"indexes": [list(row) for row in rows], "building": busy[0] if busy else 0}

        yield Lab(
            "postgres-index",
            {"schema": "public", "table": "big", "columns": [["a", "asc"]], "dsn_ref": "env:LAB_PG"},
            indexes,
            lambda: connection.execute("DROP INDEX idx_big_a; CREATE INDEX idx_big_a ON big (id)") and None,
            lambda: connection.execute("DROP INDEX idx_big_a; CREATE INDEX idx_big_a ON big (a)") and None,
            env={"LAB_PG": server.admin},
            base_dir=folder,
        )
        connection.close()


@contextmanager
def sysctl_lab(folder: Path) -> Iterator[Lab]:
    """A network parameter (that only new connections take), and a drop-in that was absent; as root."""
    path, drop_in = Path("/proc/sys/net/ipv4/tcp_fin_timeout"), folder / "99-perfloop.conf"
    old = path.read_text()
    new = str(int(old) - 3)
    try:
        yield Lab(
            "sysctl",
            {"name": "net.ipv4.tcp_fin_timeout", "value": new, "persist": True, "drop_in": str(drop_in)},
            lambda: {"running": path.read_text(), **file_state(drop_in)},
            lambda: path.write_text(str(int(old) - 7)) and None,
            lambda: path.write_text(new) and None,
            base_dir=folder,
        )
    finally:
        path.write_text(old)


@contextmanager
def cgroup_lab(folder: Path) -> Iterator[Lab]:
    """A control group of our own, with a process in it; version 1 or 2, as root."""
    name = f"perfloop-lab-{os.getpid()}-{folder.name}"
    top = Path("/sys/fs/cgroup/cpu") if Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").exists() else Path("/sys/fs/cgroup")
    group = top / name
    group.mkdir()
    file = group / ("cpu.cfs_quota_us" if (group / "cpu.cfs_quota_us").exists() else "cpu.max")
    process = subprocess.Popen(["sleep", "1000"])
    (group / "cgroup.procs").write_text(str(process.pid))
    other, mine = ("90000", "50000") if file.name == "cpu.cfs_quota_us" else ("90000 100000", "50000 100000")
    try:
        yield Lab(
            "cgroup-limit",
            {"group": str(group), "cpu": 0.5},
            lambda: {"limit": file.read_text()},
            lambda: file.write_text(other) and None,
            lambda: file.write_text(mine) and None,
            base_dir=folder,
        )
    finally:
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        group.rmdir()


_APP = "async def app(scope, receive, send):\n    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n    await send({'type': 'http.response.body', 'body': b'ok'})\n"


@contextmanager
def workers_lab(folder: Path) -> Iterator[Lab]:
    """uvicorn with two workers."""
    from perfloop.change.kinds import workers

    (folder / "lab_app.py").write_text(_APP)
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "lab_app:app", "--port", str(port), "--workers", "2", "--app-dir", str(folder), "--log-level", "error"]
    with started("uvicorn", argv, port, folder) as server:
        deadline = time.monotonic() + 30
        while workers._steady(server.pid) != 2 and time.monotonic() < deadline:
            time.sleep(0.05)

        def one(number: signal.Signals) -> Callable[[], None]:
            def act() -> None:
                os.kill(server.pid, number)
                time.sleep(0.5)
                workers._steady(server.pid)

            return act

        yield Lab(
            "workers",
            {"workers": 3, "pid": server.pid},
            lambda: {"workers": workers._steady(server.pid)},
            one(signal.SIGTTIN),
            one(signal.SIGTTOU),
            base_dir=folder,
        )


@contextmanager
def app_setting_lab(folder: Path) -> Iterator[Lab]:
    """A key of a TOML file that the configuration names, with a restart command that notes its runs."""
    path = folder / "app.toml"
    path.write_text("# top\n[pool]\nsize = 5 # how many\n")
    command = f"{shutil.which('touch')} {folder / 'restarted'}"
    setting = {"id": "pool", "file": "app.toml", "key": "pool.size", "max": 100}
    yield Lab(
        "app-setting",
        {"setting": "pool", "value": 20},
        lambda: file_state(path),
        _edit(path, "size = 20", "size = 33"),
        _edit(path, "size = 33", "size = 20"),
        config={"target": {"settings": [setting], "restart_command": command}},
        base_dir=folder,
    )


@contextmanager
def code_lab(folder: Path) -> Iterator[Lab]:
    """A repository with a patch that changes, adds and removes files; uncommitted work lies beside them."""

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=lab", "-c", "user.email=lab@localhost"]
        return subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True).stdout

    git("init", "-q", "-b", "main")
    for name, text in (("app.py", "rows = []\nfor x in xs:\n    rows.append(x)\n"), ("old.py", "gone\n"), ("mine.py", "as it was\n")):
        (folder / name).write_text(text)
    (folder / "app.py").chmod(0o755)
    git("add", ".")
    git("commit", "-qm", "first")
    (folder / "app.py").write_text("rows = list(xs)\n")
    (folder / "old.py").unlink()
    (folder / "new.py").write_text("made\n")
    git("add", "-A")
    patch = git("diff", "--cached", "--binary")
    git("reset", "-q", "--hard")
    (folder / "mine.py").write_text("uncommitted\n")
    (folder / "staged.py").write_text("staged\n")
    git("add", "staged.py")
    (folder / "untracked.py").write_text("untracked\n")

    def snapshot() -> Snapshot:
        files = {path.name: [path.read_text(), path.stat().st_mode] for path in sorted(folder.glob("*.py"))}
        return {"files": files, "status": git("status", "--porcelain"), "tree": git("rev-parse", "HEAD^{tree}"), "branch": git("symbolic-ref", "HEAD")}

    yield Lab(
        "code-git",
        {"patch": patch, "repo": "."},
        snapshot,
        _edit(folder / "app.py", "list(xs)", "list(xs)  # theirs"),
        _edit(folder / "app.py", "list(xs)  # theirs", "list(xs)"),
        base_dir=folder,
    )


LABS: dict[str, Callable[[Path], AbstractContextManager[Lab]]] = {
    "app-setting": app_setting_lab,
    "config-file": config_file,
    "nginx-setting": nginx_lab,
    "redis-setting": redis_lab,
    "mysql-setting": mariadb_lab,
    "postgres-setting": postgres_lab,
    "postgres-index": index_lab,
    "workers": workers_lab,
    "sysctl": sysctl_lab,
    "cgroup-limit": cgroup_lab,
    "code-git": code_lab,
}


def as_text(snapshot: Snapshot) -> str:
    """A snapshot to compare."""
    return json.dumps(snapshot, sort_keys=True, default=str)
