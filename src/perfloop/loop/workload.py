"""What a database is asked: SELECTs of a file, of a log with their values, or what pg_stat_statements counted, in all or since a stored snapshot; with weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perfloop.errors import CannotMeasure, PerfloopError, UsageError
from perfloop.host.files import read_limited
from perfloop.loop.query_facts import with_values
from perfloop.loop.query_text import log_entries
from perfloop.sql.connect import Connection
from perfloop.sql.explain import explain as plan_of
from perfloop.sql.fingerprint import fingerprint, normalize
from perfloop.sql.parse import statements as parsed
from perfloop.sql.query_guard import one_query
from perfloop.sql.statement_facts import since, statements
from perfloop.twin.text import table_names

FILE_MAX_BYTES = 64 * 2**20
QUERIES_MAX = 60
SAMPLES_MAX = 3  # of one statement: the slowest, the fastest and the middle execution, whose values differ
_SELECT = re.compile(r"\s*(?:select|with|values)\b", re.I)


def read(path: Path, notes: list[str]) -> list[tuple[str, float]]:
    """(text, weight) of a file: a log of slow statements, weighted by their time, or SELECTs that weigh the same. UsageError where one of these is none."""
    text = read_limited(path, FILE_MAX_BYTES).decode(errors="replace")
    entries = [entry for entry in log_entries(text) if _SELECT.match(entry[1])] if "duration: " in text else []
    if entries:
        found = _sampled(entries)
        notes.append(f"{len(entries)} executions of {len({fingerprint(one) for _, one, _ in entries})} statements in the log; weights are their time")
        return found[:QUERIES_MAX]
    queries = [one_query(statement.text) for statement in parsed(text, "postgres")]
    if len(queries) > QUERIES_MAX:
        raise UsageError(f"{path} holds {len(queries)} queries", why=f"at most {QUERIES_MAX} are looked at together", fix="give those that take the most time")
    notes.append("queries from a file weigh the same, by their planner cost; writes are not in it, so no index is charged for them")
    return [(query, 1.0) for query in queries]


def _sampled(entries: Sequence[tuple[float, str, tuple[str, ...]]]) -> list[tuple[str, float]]:
    """Each statement's time, shared by a few of its executions: common and rare values want different plans."""
    by: dict[str, list[tuple[float, str]]] = {}
    for ms, text, values in entries:
        by.setdefault(fingerprint(text), []).append((ms, with_values(text, values) if values else text))
    found = []
    for executions in sorted(by.values(), key=lambda many: -sum(ms for ms, _ in many)):
        executions.sort()
        picked = {executions[place][1] for place in (0, len(executions) // 2, len(executions) - 1)}
        whole = sum(ms for ms, _ in executions)
        found += [(text, whole / len(picked)) for text in sorted(picked)[:SAMPLES_MAX]]
    return found


def counted(connection: Connection, then: Sequence[Mapping[str, Any]] | None, notes: list[str]) -> list[tuple[str, float]]:
    """The statements with the most time in pg_stat_statements: in all, or since a stored snapshot."""
    known = statements(connection, QUERIES_MAX * 2)
    rows = since(known, then) if then is not None else known
    if not rows:
        raise CannotMeasure(
            "there is no workload to advise on",
            why="no statement was called since that snapshot" if known else "pg_stat_statements is not there, or shows nothing to this role",
            fix="give the queries or a log: perfloop indexes queries.sql; or CREATE EXTENSION pg_stat_statements",
        )
    notes.append(f"weights are each query's time in pg_stat_statements since {'that snapshot' if then is not None else 'its counters were reset'}")
    return [(row.raw, row.total_ms) for row in sorted(rows, key=lambda one: -one.total_ms)]


def planned(connection: Connection, rows: Sequence[tuple[str, float]], strict: bool, notes: list[str]) -> tuple[list[str], list[float]]:
    """Those that the target plans, at most 60; what it does not plan ends it where it was asked for by hand, else it is left out and told."""
    texts: list[str] = []
    weights: list[float] = []
    left_out = 0
    for text, weight in rows:
        if len(texts) == QUERIES_MAX:
            break
        try:
            single = one_query(text)
            if not table_names(single):
                continue
            plan_of(connection, single)
        except PerfloopError as error:
            if strict:
                raise
            left_out += 1
            if weight > 0 and left_out <= 3:
                notes.append(f"left out: {normalize(text)[:80]} ({error.why or error.what})")
            continue
        texts.append(single)
        weights.append(weight)
    return texts, weights
