"""Which query is meant: SQL text, an id of pg_stat_statements, or a log file whose dearest statement it is."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from perfloop.errors import UsageError
from perfloop.host.files import read_limited
from perfloop.sql.fingerprint import fingerprint
from perfloop.sql.statement_facts import StatementRow

LOG_MAX_BYTES = 256 * 2**20
_ID = re.compile(r"^-?\d{5,20}$")
_DURATION = re.compile(r"duration: (?P<ms>[\d.]+) ms\s+(?:(?:statement|execute [^:]*|parse [^:]*|bind [^:]*): (?P<text>.*)|plan:\s*$)", re.S)
_LINE = re.compile(r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d|^[A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d")
_LEVEL = re.compile(r"\b(?:LOG|DETAIL|HINT|CONTEXT|STATEMENT|ERROR|FATAL|WARNING):\s+")
_PARAMETERS = re.compile(r"\$(\d+) = ('(?:[^']|'')*'|NULL)")


def is_id(text: str) -> bool:
    """True for an id of pg_stat_statements."""
    return bool(_ID.match(text.strip()))


def by_id(text: str, known: tuple[StatementRow, ...]) -> str:
    """The statement of that id; UsageError where pg_stat_statements does not know it."""
    for row in known:
        if row.query_id == text.strip():
            return row.raw
    raise UsageError(
        f"pg_stat_statements knows no statement {text.strip()}",
        why=f"it was asked for the {len(known)} statements with the most time" if known else "the extension is not there, or shows nothing to this role",
        fix="SELECT queryid, query FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 20; or give the SQL text",
    )


def from_log(path: Path) -> tuple[str, tuple[str, ...], str]:
    """(text, values, what was found) of the statement with the most time in a PostgreSQL log (log_min_duration_statement); its slowest execution."""
    entries = log_entries(read_limited(path, LOG_MAX_BYTES).decode(errors="replace"))
    total: defaultdict[str, float] = defaultdict(float)
    slowest: dict[str, tuple[float, str, tuple[str, ...]]] = {}
    for ms, text, values in entries:
        if not re.match(r"\s*(?:select|with|values)\b", text, re.I):
            continue
        key = fingerprint(text)
        total[key] += ms
        if key not in slowest or ms > slowest[key][0]:
            slowest[key] = (ms, text, values)
    if not total:
        raise UsageError(
            f"{path} holds no slow SELECT",
            why="no line has duration: … ms statement: …",
            fix="ALTER SYSTEM SET log_min_duration_statement = '100ms'; SELECT pg_reload_conf();",
        )
    key = max(total, key=lambda one: total[one])
    ms, text, values = slowest[key]
    return text.strip(), values, f"from {path.name}: {total[key]:,.0f} ms in all, at most {ms:,.0f} ms in one execution"


def log_entries(content: str) -> list[tuple[float, str, tuple[str, ...]]]:
    """(milliseconds, text, values) of each statement in a PostgreSQL log."""
    found: list[tuple[float, str, tuple[str, ...]]] = []
    block: list[str] = []

    def close() -> None:
        whole = "\n".join(block)
        if match := _DURATION.search(whole):
            if match["text"]:
                found.append((float(match["ms"]), match["text"], ()))
        elif found and "DETAIL:" in whole and (pairs := _PARAMETERS.findall(whole)):
            values = tuple("" if value == "NULL" else value[1:-1].replace("''", "'") for _, value in sorted(pairs, key=lambda pair: int(pair[0])))
            ms, text, _ = found[-1]
            found[-1] = (ms, text, values)
        block.clear()

    for line in content.splitlines():
        if (_LINE.match(line) or _LEVEL.match(line)) and block:
            close()
        block.append(line)
    if block:
        close()
    return found
