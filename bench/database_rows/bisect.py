"""Plan bisect: planted regressions in two schemas and healthy controls, each by ``perfloop query`` on a real PostgreSQL, as a user would."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from bench.database_tools.planted import CASES, SCHEMAS, Case
from bench.table import Row

sys.path.append(str(Path(__file__).parents[2] / "tests"))
LEFT_S = 200.0  # of one turn: the rest is done at the next call


def rows(options: Any) -> list[Row]:
    """Resumable: what was judged is kept in ``bisect.json`` of the bench's folder."""
    folder: Path = options.work
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "bisect.json"
    done: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    began = time.monotonic()
    only = os.environ.get("BISECT_ONLY", "")
    todo = [case for case in CASES if key(case) not in done and (not only or only in key(case))]
    with server() as admin:
        for case in todo:
            if time.monotonic() - began > LEFT_S:
                break
            done[key(case)] = judged(admin, case)
            print(f"  {'ok' if done[key(case)]['ok'] else 'NO'}  {key(case)}: {done[key(case)]['causes']} in {done[key(case)]['seconds']:.1f} s", flush=True)
            kept.write_text(json.dumps(done, indent=1))
    planted = [done[key(case)] for case in CASES if case.causes and key(case) in done]
    healthy = [done[key(case)] for case in CASES if not case.causes and key(case) in done]
    whole = len(planted) + len(healthy) == len(CASES)
    why = "" if whole else f"{len(planted) + len(healthy)} of {len(CASES)} cases were run so far"
    slowest = max((one["seconds"] for one in (*planted, *healthy)), default=0.0)
    right = sum(one["ok"] for one in planted)
    false = sum(not one["ok"] for one in healthy)
    return [
        Row(
            f"bisect: right first cause, {len(planted)} planted regressions",
            100 * right / max(1, len(planted)),
            "%",
            "≥ 90",
            whole and right >= 0.9 * len(planted) if whole else None,
            why=why,
        ),
        Row(f"bisect: false causes on {len(healthy)} healthy controls", float(false), "", "0", false == 0 if whole else None, why=why),
        Row("bisect: slowest case, the whole command", round(slowest, 2), "s", "≤ 5", slowest <= 5 if whole else None, why=why),
    ]


def key(case: Case) -> str:
    return f"{case.schema}: {case.name}"


@contextmanager
def server() -> Iterator[str]:
    """A PostgreSQL with one template database a schema; yields the superuser's DSN with ``{db}`` for the database."""
    from services.postgres import postgres

    with postgres("autovacuum = off", "shared_buffers = 256MB", "max_wal_size = 4GB", "jit = off") as running:
        dsn = running.admin.replace("/postgres?", "/{db}?")
        with psycopg.connect(dsn.format(db="postgres"), autocommit=True) as admin:
            admin.execute("create role reader login")
            for name, text in SCHEMAS.items():
                admin.execute(f"create database {name}".encode())
                with psycopg.connect(dsn.format(db=name), autocommit=True) as schema:
                    schema.execute(text.encode())
                    schema.execute(b"vacuum analyze")
                    for row in schema.execute(b"select nspname from pg_namespace where nspname in ('public', 'board')").fetchall():
                        schema.execute(f"grant usage on schema {row[0]} to reader; grant select on all tables in schema {row[0]} to reader".encode())
        yield dsn


def judged(dsn: str, case: Case) -> dict[str, Any]:
    """Then, the plant, now: the first cause and the seconds of the second look."""
    database = f"case{abs(hash(key(case))) % 10**8}"
    with psycopg.connect(dsn.format(db="postgres"), autocommit=True) as admin:
        admin.execute(f"create database {database} template {case.schema}".encode())
    own = dsn.format(db=database)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BISECT_DSN"] = own.replace("postgres@", "reader@")
        with psycopg.connect(own, autocommit=True) as owner:
            for statement in case.before:
                owner.execute(statement.format(db=database).encode())
        look(case, Path(folder), case.query_then or case.query, {})
        with psycopg.connect(own, autocommit=True) as owner:
            for statement in case.plant:
                owner.execute(statement.format(db=database).encode())
        with held(own, case.lock):
            began = time.monotonic()
            result = look(case, Path(folder), case.query, {"was": "first", "was_query": case.query_then})
            seconds = time.monotonic() - began
    with psycopg.connect(dsn.format(db="postgres"), autocommit=True) as admin:
        admin.execute(f"drop database {database} with (force)".encode())
    causes = [f"{cause.rule} ({cause.confidence.value})" for cause in result.causes]
    first = result.causes[0].rule if result.causes else ""
    return {
        "ok": first in case.causes if case.causes else not causes,
        "causes": causes,
        "seconds": seconds,
        "ratio": result.time_ratio,
        "notes": list(result.evidence.notes),
    }


def look(case: Case, folder: Path, text: str, more: dict[str, str]) -> Any:
    from perfloop import api
    from perfloop.model.requests import QueryRequest

    values = case.values if "$" in text else ()
    events = api.query(QueryRequest(query=text, database="env:BISECT_DSN", values=values, **more), folder)
    while True:
        try:
            next(events)
        except StopIteration as stop:
            if os.environ.get("BISECT_SHOW"):
                from perfloop.cli.query_shown import query_text

                print(query_text(stop.value, True))
            return stop.value


@contextmanager
def held(dsn: str, statement: str) -> Iterator[None]:
    if not statement:
        yield
        return
    with psycopg.connect(dsn) as holder:
        holder.execute(statement.encode())
        yield
        holder.rollback()


if __name__ == "__main__":
    from types import SimpleNamespace

    for row in rows(SimpleNamespace(work=Path(os.environ.get("BISECT_WORK", "/tmp/perfloop-bisect")))):
        print(row)
