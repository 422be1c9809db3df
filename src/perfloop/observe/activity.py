"""Counts what the sessions of a PostgreSQL database were doing, sample by sample. Pure: rows in, loads and lock waits out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from perfloop.host.secrets import redact
from perfloop.model.evidence import LockWait, QueryLoad
from perfloop.sql.fingerprint import fingerprint, normalize
from perfloop.sql.hidden import hide_values as hide_values
from perfloop.sql.hidden import without_literals as without_literals

HIDDEN = "<insufficient privilege>"
QUERIES_MAX = 2_000
TEXTS_MAX = 5_000


class Activity(NamedTuple):
    """One session at one moment, as ``pg_stat_activity`` tells it. ``blocked_by`` are the pids it waits for."""

    pid: int
    application_name: str | None
    client_port: int | None
    state: str | None
    wait_event_type: str | None
    wait_event: str | None
    query_id: int | None
    query: str | None
    backend_type: str | None
    blocked_by: list[int] | None

    @property
    def hidden(self) -> bool:
        """True where the database does not let us see what it does."""
        return self.query == HIDDEN

    @property
    def wait(self) -> str:
        """The wait event as ``type:name``; ``CPU`` where it waits for nothing that the server knows of."""
        return f"{self.wait_event_type}:{self.wait_event}" if self.wait_event_type else "CPU"


@dataclass
class Tally:
    """Counts over all samples of one group of sessions."""

    samples: int = 0
    active: int = 0
    idle_in_transaction: int = 0
    sessions_max: int = 0
    hidden: int = 0
    seen: int = 0
    waits: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # query key → wait → samples
    texts: dict[str, str] = field(default_factory=dict)  # query key → one text that was run, literals and all; never leaves this process
    blocked: Counter[tuple[str, str]] = field(default_factory=Counter)  # (waiting key, blocking key) → session-samples
    relations: dict[tuple[str, str], str] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)

    def add(self, sessions: Iterable[Activity], everybody: Mapping[int, Activity], relation_of: Callable[[Activity], str]) -> None:
        """One sample: the sessions to count, all sessions by pid (who blocks may be another's), and a way to learn what a waiting one wants."""
        self.samples += 1
        count = 0
        for session in sessions:
            if session.hidden:
                self.hidden += 1
                continue
            count += 1
            self.seen += 1
            if session.state == "active":
                self._active(session, everybody, relation_of)
            elif session.state in ("idle in transaction", "idle in transaction (aborted)"):
                self.idle_in_transaction += 1
        self.sessions_max = max(self.sessions_max, count)

    def _active(self, session: Activity, everybody: Mapping[int, Activity], relation_of: Callable[[Activity], str]) -> None:
        self.active += 1
        key = self._key(session)
        self.waits[key][session.wait] += 1
        blocker = root_blocker(session, everybody)
        if blocker is None:
            return
        pair = (key, self._key(blocker))
        self.blocked[pair] += 1
        if not self.relations.get(pair):
            self.relations[pair] = relation_of(session)

    def _key(self, session: Activity) -> str:
        """The server's query id, or a fingerprint of the text where it tells none; one text is kept for each."""
        text = session.query or ""
        if session.query_id:
            key = str(session.query_id)
        elif text in self._keys:
            key = self._keys[text]
        else:
            key = fingerprint(text)
            if len(self._keys) < TEXTS_MAX:
                self._keys[text] = key
        if key not in self.texts and len(self.texts) >= QUERIES_MAX:
            return "other"
        self.texts.setdefault(key, text)
        return key

    def queries(self, statements: Mapping[str, tuple[int, float, int]]) -> tuple[QueryLoad, ...]:
        """The queries by load, most active first; ``statements`` has (calls, seconds, rows) by query id, where pg_stat_statements told them."""
        found = []
        for key, waits in sorted(self.waits.items(), key=lambda item: -item[1].total()):
            calls, total_s, rows = statements.get(key, (None, None, None))
            found.append(
                QueryLoad(
                    query_id=key, text=self.text(key), active_samples=waits.total(), waits=dict(waits.most_common()), calls=calls, total_s=total_s, rows=rows
                )
            )
        return tuple(found)

    def locks(self) -> tuple[LockWait, ...]:
        """Who waited for whom, most often first."""
        return tuple(
            LockWait(
                waiting_query_id=waiting,
                waiting=self.text(waiting),
                blocking=self.text(blocking),
                relation=self.relations.get((waiting, blocking), ""),
                samples=count,
            )
            for (waiting, blocking), count in self.blocked.most_common(200)
        )

    def text(self, key: str) -> str:
        """A query's text without literals and secrets."""
        return redact(normalize(self.texts.get(key, "(other queries)")))


def root_blocker(session: Activity, everybody: Mapping[int, Activity]) -> Activity | None:
    """Who is at the head of the queue: the blocker that itself waits for no lock, else the first; None where nobody (visible) blocks."""
    blockers = [everybody[pid] for pid in session.blocked_by or () if pid in everybody and pid != session.pid]
    return next((one for one in blockers if not one.blocked_by), blockers[0] if blockers else None)
