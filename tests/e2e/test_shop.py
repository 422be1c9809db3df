"""The demo shop as a whole: it starts, restarts and ends, and its roles are bounded."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perfloop.errors import CannotMeasure, UsageError
from perfloop.model.config import Config

if TYPE_CHECKING:
    from perfloop_shop.stack import Stack

pytestmark = pytest.mark.shop
PATHS = (
    "/health",
    "/products/42",
    "/products?limit=5&offset=10",
    "/customers/17/orders?limit=3",
    "/orders/recent?limit=3",
    "/products/3/availability",
    "/products/3/quote",
    "/reports/bestsellers?limit=3",
    "/reports/buyers?limit=100",
    "/search?q=lamp",
)


def get(stack: Stack, path: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(stack.url + path, timeout=20) as answer:
        assert answer.status == 200
        return json.load(answer)


@pytest.mark.parametrize("path", PATHS)
def test_every_endpoint_answers(path: str, healthy: Stack, troubled: Stack) -> None:
    assert get(healthy, path)
    assert get(troubled, path)


def test_openapi_says_the_bounds(healthy: Stack) -> None:
    parameters = get(healthy, "/openapi.json")["paths"]["/customers/{customer_id}/orders"]["get"]["parameters"]
    bounds = {p["name"]: (p["schema"]["minimum"], p["schema"]["maximum"]) for p in parameters}
    assert bounds == {"customer_id": (1, 20_000), "limit": (1, 100)}


def test_the_configuration_is_one_that_perfloop_accepts(troubled: Stack) -> None:
    config = Config.model_validate(tomllib.loads(troubled.config_path.read_text()))
    assert config.target.url == troubled.url
    assert {s.id for s in config.target.settings} == {"pool-size", "supplier-keepalive"}
    for reference in (config.target.postgres, config.target.postgres_admin):
        secret = Path(reference.removeprefix("file:"))
        assert secret.stat().st_mode & 0o077 == 0
        psycopg.connect(secret.read_text().strip()).close()


def test_the_restart_command_changes_the_pid_and_keeps_the_address(healthy: Stack) -> None:
    before, database = healthy.pid(), healthy.pid("postgres")
    config = Config.model_validate(tomllib.loads(healthy.config_path.read_text()))
    bare = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(shlex.split(config.target.restart_command), cwd="/", env=bare, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert healthy.pid() not in (None, before)
    assert healthy.pid("postgres") == database
    assert get(healthy, "/health") == {"status": "ok"}


def test_a_second_shop_in_the_same_folder_is_refused(healthy: Stack) -> None:
    from perfloop_shop.stack import Stack

    with pytest.raises(CannotMeasure, match="already running"):
        Stack((), healthy.work_dir, healthy.template_dir).start()
    assert healthy.pid() is not None


def test_an_unknown_problem_is_named() -> None:
    from perfloop_shop.stack import Stack

    with pytest.raises(UsageError, match="no problem 'slow'"):
        Stack(("slow",))


def test_a_failed_start_leaves_nothing_running(shop_folder: Path, shop_template: Path, shop_orders: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from perfloop_shop import ctl
    from perfloop_shop.stack import Stack

    def fail(*_: object, **__: object) -> None:
        raise CannotMeasure("the service does not start")

    monkeypatch.setattr(ctl, "start", fail)
    stack = Stack((), shop_folder / "failed", shop_template, orders=shop_orders)
    with pytest.raises(CannotMeasure, match="does not start"):
        stack.start()
    assert [stack.pid(part) for part in ("shop", "supplier", "postgres")] == [None, None, None]


def test_an_owner_that_was_killed_leaves_pids_that_the_next_start_ends(shop_folder: Path, shop_template: Path, shop_orders: int) -> None:
    from perfloop_shop.stack import Stack

    folder = shop_folder / "killed"
    argv = [sys.executable, "-m", "perfloop_shop", "up", "--problems", "", "--orders", str(shop_orders)]
    env = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    owner = subprocess.Popen([*argv, "--work-dir", str(folder), "--template-dir", str(shop_template)], stdout=subprocess.PIPE, env=env)
    assert owner.stdout is not None
    assert json.loads(owner.stdout.readline())["problems"] == []
    owner.kill()
    owner.wait(10)
    owner.stdout.close()
    with Stack((), folder, shop_template, orders=shop_orders) as stack:
        left = stack.pid("postgres")
        assert left is not None
        assert get(stack, "/products/1")["id"] == 1
    assert stack.pid("postgres") is None


def dsn(stack: Stack, name: str) -> str:
    return (stack.work_dir / f"{name}.dsn").read_text().strip()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.t ()",
        "SET default_transaction_read_only = off; DELETE FROM orders",
        "SELECT pg_read_file('PG_VERSION')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ],
)
def test_the_read_only_role_cannot(statement: str, healthy: Stack) -> None:
    with psycopg.connect(dsn(healthy, "perfloop"), autocommit=True) as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute(statement)
    assert refused.value.sqlstate in ("42501", "25006")


def test_the_read_only_role_sees_the_sessions_of_the_service_through_the_function_alone(healthy: Stack) -> None:
    get(healthy, "/products/7")
    with psycopg.connect(dsn(healthy, "perfloop")) as connection:
        granted = connection.execute("SELECT count(*) FROM pg_auth_members WHERE member = 'perfloop_ro'::regrole").fetchone()
        rows = connection.execute("SELECT query, query_id, state FROM perfloop.activity() WHERE usename = 'shop'").fetchall()
        hidden = connection.execute("SELECT DISTINCT query FROM pg_stat_activity WHERE usename = 'shop'").fetchall()
    assert granted == (0,)
    assert rows
    assert all(query_id for _, query_id, _ in rows)
    assert hidden == [("<insufficient privilege>",)]
    with psycopg.connect(dsn(healthy, "owner")) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM perfloop.activity()")


def test_the_demo_starts_as_its_entry_point_says_and_can_be_kept(shop_folder: Path) -> None:
    from perfloop_shop.problems import FOR_DEMO
    from perfloop_shop.stack import demo

    project = tomllib.loads((Path(__file__).parents[2] / "demo" / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["perfloop.demos"] == {"shop": "perfloop_shop.stack:demo"}
    folder = shop_folder / "demo"
    control = [sys.executable, "-m", "perfloop_shop", "ctl", "--work-dir", str(folder)]
    env = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    try:
        with demo(folder, None, keep=True) as running:
            assert set(running.problems) == set(FOR_DEMO)
            assert running.config_path.is_file()
            assert "520,000 orders" in running.note
        kept = json.loads(subprocess.check_output([*control, "status"], env=env, timeout=30))
    finally:
        ended = json.loads(subprocess.check_output([*control, "down"], env=env, timeout=60))
    assert None not in kept.values()
    assert set(ended.values()) == {None}
    assert not (folder / "pgdata").exists()
