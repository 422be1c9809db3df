"""The help desk on FastAPI with SQLAlchemy, run by uvicorn. FAULTS names the faults that are on."""

from __future__ import annotations

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Lock
from typing import Any

import httpx
import redis
import requests
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from sqlalchemy import ForeignKey, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship, selectinload, sessionmaker

from faults_services import work

FAULTS = frozenset(filter(None, os.environ.get("FAULTS", "").split(",")))
DIRECTORY = os.environ["DIRECTORY_URL"]
engine = create_engine(
    os.environ["DATABASE_DSN"].replace("postgresql://", "postgresql+psycopg://"), pool_size=2 if "pool-exhausted" in FAULTS else 10, max_overflow=0
)
sessions = sessionmaker(engine, expire_on_commit=False)
app = FastAPI()
client = httpx.AsyncClient(base_url=DIRECTORY, timeout=5, trust_env=False)
plain = requests.Session()
plain.trust_env = False
plain.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=40))
cache = redis.Redis(port=int(os.environ["REDIS_PORT"]), decode_responses=True)
guard = Lock()
few = ThreadPoolExecutor(2)
counts: dict[str, int] = {}
if "logging-heavy" in FAULTS:
    work.log.setLevel("INFO")
    work.log.addHandler(work.logging.FileHandler(os.environ["LOG_FILE"]))


class Base(DeclarativeBase):
    pass


class Agent(Base):
    __tablename__ = "agents"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Message(Base):
    __tablename__ = "messages"
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    author_id: Mapped[int] = mapped_column(ForeignKey("agents.id"))
    text: Mapped[str]
    author: Mapped[Agent] = relationship()


class Ticket(Base):
    __tablename__ = "tickets"
    id: Mapped[int] = mapped_column(primary_key=True)
    agent_id: Mapped[int]
    subject: Mapped[str]
    state: Mapped[str]
    opened_at: Mapped[datetime]
    body: Mapped[str]
    messages: Mapped[list[Message]] = relationship()


def line(ticket: Any) -> dict[str, Any]:
    return {"id": ticket.id, "agent_id": ticket.agent_id, "subject": ticket.subject, "state": ticket.state}


def rows(session: Session, statement: Any) -> work.Rows:
    return [dict(row) for row in session.execute(statement).mappings()]


COLUMNS = (Ticket.id, Ticket.agent_id, Ticket.subject, Ticket.state)


async def ask(person: int, ms: float = 2, **more: Any) -> dict[str, Any]:
    answer = await client.get(
        f"/people/{person}", params={"ms": ms, **more}
    )  # here: slow-downstream, event-loop-blocked, pool-exhausted, thread-pool-exhausted, worker-count-wrong
    answer.raise_for_status()
    return answer.json()


def ask_plainly(person: int, ms: float, **more: Any) -> dict[str, Any]:
    answer = plain.get(
        f"{DIRECTORY}/people/{person}", params={"ms": ms, **more}, timeout=5
    )  # here: slow-downstream, event-loop-blocked, pool-exhausted, thread-pool-exhausted, worker-count-wrong
    answer.raise_for_status()
    return answer.json()


@app.get("/health")
async def health() -> dict[str, bool]:
    return {"ok": True}


@app.get("/tickets/{ticket}")
def show(ticket: int) -> dict[str, Any]:
    with sessions() as session:
        found = session.get(Ticket, ticket)
        return line(found) | {"body": found.body} if found else {}


@app.get("/inbox")
def inbox(agent: int = 7) -> list[dict[str, Any]]:
    with sessions() as session:
        return rows(session, select(*COLUMNS).where(Ticket.agent_id == agent).order_by(Ticket.opened_at.desc()).limit(20))  # here: missing-index


@app.get("/threads")
def threads(limit: int = 15) -> list[dict[str, Any]]:
    query = select(Ticket).order_by(Ticket.id.desc()).limit(limit)
    if "n-plus-one" not in FAULTS:
        query = query.options(selectinload(Ticket.messages).options(joinedload(Message.author)))
    with sessions() as session:
        return [thread(ticket) for ticket in session.scalars(query)]  # here: n-plus-one


def thread(ticket: Ticket) -> dict[str, Any]:
    return line(ticket) | {"messages": [{"text": message.text, "author": message.author.name} for message in ticket.messages]}  # here: n-plus-one


@app.get("/digest")
def digest(days: int = 30) -> dict[str, Any]:
    with sessions() as session:
        found = rows(session, select(*COLUMNS).where(Ticket.id <= days * 20).order_by(Ticket.id))
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
    with sessions() as session:
        if "no-pagination" in FAULTS:
            return JSONResponse(rows(session, select(*COLUMNS).where(Ticket.id < 2500)))  # here: no-pagination
        found = rows(session, select(*COLUMNS).order_by(Ticket.id).limit(40))
    if "logging-heavy" in FAULTS:
        work.audit(found * 8)
    if "serialization-heavy" in FAULTS:
        return Response(json.dumps(work.enriched(found * 4), indent=2), media_type="application/json")  # here: serialization-heavy
    if "large-payload" in FAULTS:
        return JSONResponse({"tickets": found, "attachment": "QUJDRA==" * 120_000})  # here: large-payload
    return JSONResponse(found)


@app.get("/board")
def board() -> list[dict[str, Any]]:
    query = text("SELECT state, count(*), max(opened_at)::text AS last FROM tickets WHERE length(body) > 20 AND id % 3 > 0 GROUP BY state")

    def load() -> work.Rows:
        with sessions() as session:
            return rows(session, query)

    return (work.board if "cache-stampede" in FAULTS else work.board_alone)(load)


@app.get("/people/{person}")
async def person(person: int) -> dict[str, Any]:
    if "slow-downstream" in FAULTS:
        return await ask(person, 140)  # here: slow-downstream, event-loop-blocked, pool-exhausted, thread-pool-exhausted, worker-count-wrong
    if "event-loop-blocked" in FAULTS:
        return ask_plainly(person, 35)  # here: event-loop-blocked
    if "n-plus-one-http" in FAULTS:
        return {"colleagues": [await ask(person + number, 5) for number in range(12)]}  # here: n-plus-one-http
    if "sequential-calls" in FAULTS:
        return await in_sequence(person)
    if "retry-storm" in FAULTS:
        return await stubborn(person)
    if "thread-pool-exhausted" in FAULTS:
        return await asyncio.get_running_loop().run_in_executor(few, crowded, person)
    if "no-keep-alive" in FAULTS:
        return await anew(person)
    return await ask(person)


def crowded(person: int) -> dict[str, Any]:
    return ask_plainly(person, 75)  # here: thread-pool-exhausted


async def in_sequence(person: int) -> dict[str, Any]:
    profile = await ask(person, 40)  # here: sequential-calls
    calendar = await ask(person + 1000, 38)  # here: sequential-calls
    leave = await ask(person + 2000, 36)  # here: sequential-calls
    return {"profile": profile, "calendar": calendar, "leave": leave}


async def stubborn(person: int) -> dict[str, Any]:
    for attempt in range(6):
        try:
            return await ask(person, 6, fail=3, attempt=attempt)  # here: retry-storm
        except httpx.HTTPError:
            await asyncio.sleep(0.012)  # here: retry-storm
    return {}


async def anew(person: int) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=DIRECTORY, trust_env=False) as once:  # here: no-keep-alive
        return (await once.get(f"/people/{person}")).json()  # here: no-keep-alive


@app.get("/agents/{person}")
def agent(person: int) -> dict[str, Any]:
    if "lock-contention" in FAULTS:
        return under_lock(person)
    if "chatty-cache" in FAULTS:
        return {"seen": [cache.get(f"agent:{person}:{field}") for field in range(40)]}  # here: chatty-cache
    with sessions() as session:
        found = session.get(Agent, person % 500 + 1)
        if "pool-exhausted" in FAULTS:
            return {"name": found.name if found else "", "directory": ask_plainly(person, 50)}  # here: pool-exhausted
    return {"name": found.name if found else "", "directory": ask_plainly(person, 2)}


def under_lock(person: int) -> dict[str, Any]:
    with guard:  # here: lock-contention
        counts["asked"] = counts.get("asked", 0) + 1
        return ask_plainly(person, 22)


@app.get("/note")
def note() -> dict[str, bool]:
    if "fsync-bound" in FAULTS:
        with open(os.environ["LOG_FILE"] + ".notes", "a") as file:  # noqa: PTH123
            for _ in range(3):
                file.write("note\n")
                file.flush()
                os.fsync(file.fileno())  # here: fsync-bound
    return {"noted": True, "at": time.time() > 0}
