"""The world that users live in: what they run, how their requests are made, and when the next iteration begins."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

from perfloop.load.engines.asking import Prepared, Program
from perfloop.load.engines.calls import PAUSE_S, Call
from perfloop.load.engines.heads import Head
from perfloop.load.engines.labels import template
from perfloop.load.engines.recorder import Recorder
from perfloop.load.engines.reply import Reply
from perfloop.load.engines.requests import IDEMPOTENT, Origin, Template, build_head, fields_of, quote_path
from perfloop.load.engines.sending import Scan, Sending, bound_or
from perfloop.load.engines.sources import Crowd
from perfloop.load.engines.users import User

CACHE_MAX = 10_000
USERS_MAX = 50_000
ERRORS_SHOWN_MAX = 300
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/_.?=&%~,:+-]*")
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


class World:
    """What all users share: the sending, the journeys by weight, and requests made before."""

    def __init__(self, sending: Sending, recorder: Recorder, origin: Origin, headers: Sequence[tuple[str, str]], seed: int, cookies: str, data: Any) -> None:
        self.sending, self.recorder, self.checks, self.seed, self.cookies, self.data = sending, recorder, recorder.checks, seed, cookies, data
        self.programs: Sequence[Program] = ()
        self._choices: Iterator[int]
        self._think_s = (0.0, 0.0)
        self._stride = 1
        self._origin, self._headers = origin, tuple(headers)
        self.gets: dict[tuple[str, str], Prepared] = {}
        self._fields: dict[tuple[Any, ...], bytes] = {}
        self.no_column = recorder.column("")
        self.no_template = Template(b"", False, False)
        self.no_head = Head(b"", 0, -1, True)
        self.no_head.error = ""
        self.leaving: Callable[[User], bool] = _stays
        self.user_type: type[User] = User

    def populate(self, programs: Sequence[Program], choices: Iterator[int], think_s: tuple[float, float], stride: int) -> None:
        """The journeys, how they are chosen, the pause between iterations, and how far apart the numbers of a user's iterations are."""
        self.programs, self._choices, self._think_s, self._stride = programs, choices, think_s, stride

    def choose(self) -> Program:
        """The next journey, by weight."""
        return self.programs[next(self._choices)]

    def next(self, user: User, now_s: float) -> None:
        """A closed user's iteration is over: the next one follows after its pause."""
        user.iteration += self._stride
        if self.leaving(user):
            return
        low, high = user.program.think_s
        if not high:
            low, high = self._think_s
        if high:
            self.sending.clock.at(now_s + low + (high - low) * user.random.random(), user.begin)
        elif user.starting:  # it waited for nothing: no spin
            self.sending.clock.at(now_s + PAUSE_S, user.begin)
        else:
            user.begin(now_s)

    # ----- requests

    def prepare(self, method: str, path: str, name: str, headers: dict[str, str] | None, content: bytes) -> Prepared:
        """A request as bytes; a GET without headers of its own is kept for the next time."""
        payload = f"{method} {self._path(path)} HTTP/1.1\r\n".encode("latin-1") + self._head(method, headers, content) + content
        prepared = Prepared(self.recorder.column(name or f"{method} {template(path)}"), Template(payload, method == "HEAD", method in IDEMPOTENT))
        if method == "GET" and not headers and not content and len(self.gets) < CACHE_MAX:
            self.gets[path, name] = prepared
        return prepared

    def content(self, value: Any, body: str | bytes) -> bytes:
        """A body: the value as JSON, else the text or bytes."""
        if value is not None:
            return json.dumps(value, separators=(",", ":")).encode()
        return body if isinstance(body, bytes) else body.encode()

    def redirect(self, reply: Reply, method: str, path: str) -> tuple[str, str] | None:
        """Method and path that a redirect to this same origin asks for; None for everything else."""
        place = reply.header("location")
        if reply.status not in _REDIRECTS or not place:
            return None
        origin = self._origin
        base = f"{'https' if origin.tls else 'http'}://{origin.authority}"
        try:
            parts = urlsplit(urljoin(base + origin.prefix + path, place))
        except ValueError:
            return None
        if f"{parts.scheme}://{parts.netloc}" != base or not parts.path.startswith(origin.prefix):
            return None
        onward = parts.path.removeprefix(origin.prefix) + (f"?{parts.query}" if parts.query else "")
        again = method in ("GET", "HEAD") or reply.status in (307, 308)
        return (method if again else "GET"), onward or "/"

    def without_prefix(self, path: str) -> str:
        """A path as it was sent, as a journey would write it."""
        return path.removeprefix(self._origin.prefix)

    def keep_cookies(self, jar: dict[str, str] | None, values: Iterable[str]) -> dict[str, str]:
        """The jar with what a response set or took away. All of one origin; paths and dates are not looked at, Max-Age=0 is."""
        jar = dict(jar or {})
        for value in values:
            pair, *attributes = value.split(";")
            name, _, content = pair.strip().partition("=")
            ages = [a.strip()[8:] for a in attributes if a.strip().lower().startswith("max-age=")]
            if ages and ages[-1].lstrip("-").isdigit() and int(ages[-1]) <= 0:
                jar.pop(name, None)
            elif name:
                jar[name] = content
        return jar

    def with_cookies(self, payload: bytes, jar: dict[str, str]) -> bytes:
        """A request with a Cookie header behind its first line."""
        line = "; ".join(f"{name}={value}" for name, value in jar.items()).encode("latin-1", "replace")
        at = payload.index(b"\r\n") + 2
        return b"%bCookie: %b\r\n%b" % (payload[:at], line, payload[at:])

    def code_failed(self, program: Program, error: Exception) -> None:
        """The journey's own code raised: counted at the journey, the first one told with its line."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        line = f" at {trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}" if trace else ""
        self.recorder.first_errors.setdefault("script", f"{program.name}: {type(error).__name__}: {error}{line}"[:ERRORS_SHOWN_MAX])
        self.recorder.code_failed += 1

    def _path(self, path: str) -> str:
        return self._origin.prefix + path if _PLAIN_PATH.fullmatch(path) else quote_path(self._origin, path)

    def _head(self, method: str, headers: dict[str, str] | None, content: bytes) -> bytes:
        if not headers:
            key = (method, bool(content))
            fields = self._fields.get(key)
            if fields is None:
                fields = self._fields[key] = fields_of(self._origin, method, self._headers, bool(content))
            return b"%bContent-Length: %d\r\n\r\n" % (fields, len(content)) if content or method in ("POST", "PUT", "PATCH") else fields + b"\r\n"
        return build_head(self._origin, method, (*self._headers, *headers.items()), content)


def _stays(user: User) -> bool:
    return False


class OpenUsers:
    """Each arrival is an iteration of a journey by a user who is free, or a new one."""

    def __init__(self, world: World, arrivals: Iterator[tuple[int, float, int]]) -> None:
        self._world, self._sending, self._arrivals = world, world.sending, arrivals
        self._all: list[User] = []
        self._free: list[User] = []
        self._scan = Scan(bound_or(world.sending.timeout_s, world.sending.first_byte_s))
        self._next: tuple[int, int] = (0, 0)
        world.next = self._ended  # type: ignore[method-assign]

    @property
    def users(self) -> int:
        """Users in the middle of a journey."""
        return len(self._all) - len(self._free)

    def begin(self) -> None:
        """Waits for the first arrival."""
        self._advance()

    def tick(self, now_s: float) -> None:
        """Nothing to do between arrivals."""

    def overdue(self, now_s: float) -> Iterable[Call]:
        """Some of the users, all in turn."""
        return self._scan.some(self._all, now_s)  # type: ignore[arg-type]

    def close(self) -> None:
        """Ends all journeys."""
        for user in self._all:
            user.stop()

    def _ended(self, user: User, now_s: float) -> None:
        self._free.append(user)

    def _advance(self) -> None:
        try:
            number, at_s, choice = next(self._arrivals)
        except StopIteration:
            return
        self._next = (number, choice)
        self._sending.clock.at(self._sending.start_s + at_s, self._arrive)

    def _arrive(self, due_s: float) -> None:
        if not self._sending.on:
            return
        number, choice = self._next
        program = self._world.programs[choice]
        self._world.recorder.arrivals.append(due_s)
        if self._free:
            user = self._free.pop()
        elif len(self._all) < USERS_MAX:
            user = self._world.user_type(self._world, len(self._all))
            self._all.append(user)
        else:
            program.count.started += 1
            program.count.errors["no_user"] = program.count.errors.get("no_user", 0) + 1
            self._advance()
            return
        user.iteration = number
        user.begin(due_s, program)
        self._advance()


class ClosedUsers:
    """Users who run one iteration after another, as many as the curve says."""

    def __init__(self, world: World, crowd: Crowd, index: int, stride: int) -> None:
        self._world, self._crowd, self._index, self._stride = world, crowd, index, stride
        self._all: list[User] = []
        self._here = 0  # the first so many of them are active
        self._scan = Scan(bound_or(world.sending.timeout_s, world.sending.first_byte_s))
        self._gone: set[User] = set()
        world.leaving = self._leaving

    @property
    def users(self) -> int:
        """Users that are active."""
        return len(self._all) - len(self._gone)

    def begin(self) -> None:
        """The users of the first moment, as soon as the window starts."""
        self._world.sending.clock.at(self._world.sending.start_s, self.tick)

    def tick(self, now_s: float) -> None:
        """Starts users until there are enough; the last ones leave after their iteration where there are too many."""
        self._here = self._crowd.wanted(now_s - self._world.sending.start_s)
        for user in [user for user in self._gone if user.id // self._stride < self._here]:
            self._gone.discard(user)
            user.begin(now_s)
        for place in range(len(self._all), self._here):
            user = self._world.user_type(self._world, self._index + place * self._stride)
            self._all.append(user)
            user.begin(now_s)

    def overdue(self, now_s: float) -> Iterable[Call]:
        """Some of the users, all in turn."""
        return self._scan.some(self._all, now_s)  # type: ignore[arg-type]

    def close(self) -> None:
        """Ends all journeys."""
        for user in self._all:
            user.stop()

    def _leaving(self, user: User) -> bool:
        if user.id // self._stride < self._here:
            return False
        self._gone.add(user)
        return True
