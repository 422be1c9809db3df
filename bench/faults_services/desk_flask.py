"""The help desk on Flask with plain psycopg, run by gunicorn with threads. FAULTS names the faults that are on."""

from __future__ import annotations

import json
import os
import time
from threading import Lock
from typing import Any

import psycopg
import redis
import requests
from flask import Flask, Response, jsonify, request
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from faults_services import work

FAULTS = frozenset(filter(None, os.environ.get("FAULTS", "").split(",")))
DSN, DIRECTORY = os.environ["DATABASE_DSN"], os.environ["DIRECTORY_URL"]
COLUMNS = "id, agent_id, subject, state, opened_at::text AS opened_at"

app = Flask("desk")
pool = ConnectionPool(DSN, min_size=2, max_size=2 if "pool-exhausted" in FAULTS else 10, timeout=10, kwargs={"row_factory": dict_row, "autocommit": True})
http = requests.Session()
http.trust_env = False
http.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=40))
cache = redis.Redis(port=int(os.environ["REDIS_PORT"]), decode_responses=True)
guard = Lock()
counts: dict[str, int] = {}
if "logging-heavy" in FAULTS:
    work.log.setLevel("INFO")
    work.log.addHandler(work.logging.FileHandler(os.environ["LOG_FILE"]))


def rows(sql: str, *values: Any) -> list[dict[str, Any]]:
    with pool.connection() as connection:
        return connection.execute(sql, values).fetchall()


def ask(person: int, ms: float = 2, client: Any = http, **more: Any) -> dict[str, Any]:
    answer = client.get(
        f"{DIRECTORY}/people/{person}", params={"ms": ms, **more}, timeout=5
    )  # here: slow-downstream, event-loop-blocked, pool-exhausted, thread-pool-exhausted, worker-count-wrong
    answer.raise_for_status()
    return answer.json()


@app.get("/health")
def health() -> str:
    return "ok"


@app.get("/tickets/<int:ticket>")
def show(ticket: int) -> Response:
    return jsonify(rows(f"SELECT {COLUMNS}, body FROM tickets WHERE id = %s", ticket))


@app.get("/inbox")
def inbox() -> Response:
    agent = int(request.args.get("agent", "7"))
    return jsonify(rows(f"SELECT {COLUMNS} FROM tickets WHERE agent_id = %s ORDER BY opened_at DESC LIMIT 20", agent))  # here: missing-index


@app.get("/threads")
def threads() -> Response:
    limit = int(request.args.get("limit", "15"))
    return jsonify(threads_one_by_one(limit) if "n-plus-one" in FAULTS else threads_joined(limit))


def threads_joined(limit: int) -> list[dict[str, Any]]:
    tickets = rows(f"SELECT {COLUMNS} FROM tickets ORDER BY id DESC LIMIT %s", limit)
    messages = rows(
        "SELECT m.ticket_id, m.text, a.name FROM messages m JOIN agents a ON a.id = m.author_id WHERE m.ticket_id = ANY(%s)", [t["id"] for t in tickets]
    )
    found: dict[int, list[dict[str, Any]]] = {}
    for message in messages:
        found.setdefault(message["ticket_id"], []).append(message)
    return [{**ticket, "messages": found.get(ticket["id"], [])} for ticket in tickets]


def threads_one_by_one(limit: int) -> list[dict[str, Any]]:
    found = []
    for ticket in rows(f"SELECT {COLUMNS} FROM tickets ORDER BY id DESC LIMIT %s", limit):
        messages = rows("SELECT id, text, author_id FROM messages WHERE ticket_id = %s", ticket["id"])  # here: n-plus-one
        for message in messages:
            message["author"] = rows("SELECT name FROM agents WHERE id = %s", message["author_id"])[0]["name"]  # here: n-plus-one
        found.append({**ticket, "messages": messages})
    return found


@app.get("/digest")
def digest() -> Response:
    days = int(request.args.get("days", "30"))
    found = rows(f"SELECT {COLUMNS} FROM tickets WHERE id <= %s ORDER BY id", days * 20)
    return jsonify(digested(found, days))


def digested(found: work.Rows, days: int) -> dict[str, Any]:
    if "memory-leak" in FAULTS:
        work.remember(found)
    for fault, count in SUMMARIES.items():
        if fault in FAULTS:
            return count(found)
    if "cache-ineffective" in FAULTS:
        return {"digest": work.digest_cached(found, days)}
    return work.summary(found)


SUMMARIES = {
    "cpu-hot-spot": work.summary_signed,
    "superlinear": work.summary_compared,
    "gil-bound": work.summary_signed,
    "decoy-cache": work.summary_with_a_label,
    "decoy-lock": work.summary_counted,
    "decoy-memory": work.summary_kept,
    "decoy-nested": work.summary_paired,
    "gc-pressure": work.summary_as_tree,
    "excessive-allocation": work.summary_from_copies,
}


@app.get("/export")
def export() -> Response:
    if "no-pagination" in FAULTS:
        return jsonify(rows(f"SELECT {COLUMNS} FROM tickets WHERE id < 2500"))  # here: no-pagination
    found = rows(f"SELECT {COLUMNS} FROM tickets ORDER BY id LIMIT 40")
    if "logging-heavy" in FAULTS:
        work.audit(found * 8)
    if "serialization-heavy" in FAULTS:
        return Response(json.dumps(work.enriched(found * 4), indent=2), mimetype="application/json")  # here: serialization-heavy
    if "large-payload" in FAULTS:
        return jsonify({"tickets": found, "attachment": "QUJDRA==" * 120_000})  # here: large-payload
    return jsonify(found)


@app.get("/board")
def board() -> Response:
    load = lambda: rows("SELECT state, count(*), max(opened_at)::text AS last FROM tickets WHERE length(body) > 20 AND id %% 3 > 0 GROUP BY state")  # noqa: E731
    return jsonify((work.board if "cache-stampede" in FAULTS else work.board_alone)(load))


@app.get("/people/<int:person>")
def person(person: int) -> Response:
    return jsonify(PEOPLE.get(next((name for name in PEOPLE if name in FAULTS), ""), known)(person))


def known(person: int) -> dict[str, Any]:
    agent = rows("SELECT id, name FROM agents WHERE id = %s", person % 500 + 1)[0]
    return agent | ask(person)


def slow(person: int) -> dict[str, Any]:
    return ask(person, 140)  # here: slow-downstream, event-loop-blocked, pool-exhausted, thread-pool-exhausted, worker-count-wrong


def holding_connection(person: int) -> dict[str, Any]:
    with pool.connection() as connection:
        agent = connection.execute("SELECT id, name FROM agents WHERE id = %s", (person % 500 + 1,)).fetchone()
        return agent | ask(person, 50)  # here: pool-exhausted


def under_lock(person: int) -> dict[str, Any]:
    with guard:  # here: lock-contention
        counts["asked"] = counts.get("asked", 0) + 1
        return ask(person, 22)


def one_by_one(person: int) -> dict[str, Any]:
    return {"colleagues": [ask(person + number, 5) for number in range(12)]}  # here: n-plus-one-http


def in_sequence(person: int) -> dict[str, Any]:
    profile = ask(person, 40)  # here: sequential-calls
    calendar = ask(person + 1000, 38)  # here: sequential-calls
    leave = ask(person + 2000, 36)  # here: sequential-calls
    return {"profile": profile, "calendar": calendar, "leave": leave}


def anew(person: int) -> dict[str, Any]:
    with psycopg.connect(DSN) as connection:  # here: no-keep-alive
        return {"agent": connection.execute("SELECT name FROM agents WHERE id = %s", (person % 500 + 1,)).fetchone()}


def stubborn(person: int) -> dict[str, Any]:
    for attempt in range(6):
        try:
            return ask(person, 6, fail=3, attempt=attempt)  # here: retry-storm
        except requests.RequestException:
            time.sleep(0.012)  # here: retry-storm
    return {}


def dependent(person: int) -> dict[str, Any]:
    first = ask(person, 22)
    second = ask(person + len(first["name"]), 22)
    return ask(person + len(second["team"]), 22)


def patient(person: int) -> dict[str, Any]:
    for attempt in range(4):
        try:
            return ask(person, 12, attempt=attempt)
        except requests.RequestException:
            time.sleep(0.05)
    return {}


def chatty(person: int) -> dict[str, Any]:
    return {"seen": [cache.get(f"agent:{person}:{field}") for field in range(40)]}  # here: chatty-cache


def crowded(person: int) -> dict[str, Any]:
    return ask(person, 90)  # here: thread-pool-exhausted, worker-count-wrong


PEOPLE = {
    "slow-downstream": slow,
    "pool-exhausted": holding_connection,
    "lock-contention": under_lock,
    "n-plus-one-http": one_by_one,
    "sequential-calls": in_sequence,
    "no-keep-alive": anew,
    "retry-storm": stubborn,
    "chatty-cache": chatty,
    "thread-pool-exhausted": crowded,
    "worker-count-wrong": crowded,
    "decoy-dependent": dependent,
    "decoy-retry": patient,
}


@app.get("/note")
def note() -> Response:
    path = os.environ["LOG_FILE"] + ".notes"
    if "fsync-bound" in FAULTS:
        with open(path, "a") as file:  # noqa: PTH123
            for _ in range(3):
                file.write("note\n")
                file.flush()
                os.fsync(file.fileno())  # here: fsync-bound
    return jsonify({"noted": True})
