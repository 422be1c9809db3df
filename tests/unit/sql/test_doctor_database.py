"""What doctor says about a real database, by role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from perfloop.context.database import database_capabilities
from perfloop.context.doctor import activity_sql
from perfloop.model.config import Config


def checks(folder: Path, reader: str, admin: str) -> dict[str, tuple[bool | None, str, str]]:
    (folder / "reader").write_text(reader)
    (folder / "admin").write_text(admin)
    config = Config.model_validate({"target": {"postgres": "file:reader", "postgres_admin": "file:admin"}})
    return {name: (ok, reason, fix) for name, ok, reason, fix, _need in database_capabilities(config, folder, activity_sql())}


def test_each_gap_comes_with_what_closes_it(database: Any, tmp_path: Path) -> None:
    found = checks(tmp_path, database.reader, database.admin)
    assert found["database, to look"][0] is True
    ok, _, fix = found["sessions of the database"]
    assert ok is False
    assert "perfloop_ro" not in fix
    with psycopg.connect(database.admin, autocommit=True) as admin:
        admin.execute(fix.partition("\n")[2].encode())  # the text that is printed does it
    try:
        found = checks(tmp_path, database.reader, database.admin)
        assert found["sessions of the database"][0] is True
    finally:
        with psycopg.connect(database.admin, autocommit=True) as admin:
            admin.execute("drop schema perfloop cascade")
    assert found["query ids"][0] is True
    assert found["pg_stat_statements"][0] is None
    assert found["database, to change"][0] is True


def test_roles_that_do_not_fit(database: Any, tmp_path: Path) -> None:
    found = checks(tmp_path, database.admin, database.reader)
    ok, reason, fix = found["database, to look"]
    assert ok is False
    assert "superuser" in reason
    assert fix
    ok, reason, fix = found["database, to change"]
    assert ok is False
    assert "owns 0 of" in reason
    assert fix
    assert "geheim" not in str(found)
