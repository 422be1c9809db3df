"""The world of users of a database or cache: its driver, its guard, and declared journeys of statements and commands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, cast

from perfloop.errors import UsageError
from perfloop.load.engines.asking import Function
from perfloop.load.engines.crowd import World
from perfloop.load.engines.declared import check_name, in_order, make_check, make_extract
from perfloop.load.engines.pool import Pool, Route
from perfloop.load.engines.recorder import Recorder
from perfloop.load.engines.requests import Origin
from perfloop.load.engines.room import owns
from perfloop.load.engines.sending import Sending
from perfloop.load.engines.stores.questions import CACHE_MAX, DIALECTS, Command, Commands, Statement, check_statement, command_of, statement_of
from perfloop.load.engines.stores.users import Client, Connections, StoreUser
from perfloop.model.limits import place_of
from perfloop.sql.fingerprint import normalize
from perfloop.sql.parse import Dialect

Plan = dict[str, Any]
CONNECT_MAX_S = 10.0


class StoreWorld(World):
    """What users of one database or cache share."""

    def __init__(self, plan: Plan, recorder: Recorder, sending: Sending, connections: Connections, data: Any) -> None:
        super().__init__(sending, recorder, Origin(False, "", 0, ""), (), plan["seed"], "off", data)
        self.user_type = StoreUser
        self.connections = connections
        self.scheme = place_of(plan["base_url"]).scheme
        self._writes_allowed = bool(plan["writes_allowed"])
        self._checked: dict[tuple[str, bool], str] = {}
        self._commands = Commands(commands_of(plan["dsn"]), self._writes_allowed) if self.scheme == "redis" else None

    def checked(self, text: str, bound: bool) -> str:
        """The label of a statement that the guard lets through; ``UsageError`` for another."""
        label = self._checked.get((text, bound))
        if label is None:
            check_statement(text, bound, self._dialect(), self._writes_allowed)
            label = " ".join(normalize(text, self._dialect()).split())[:120]
            if len(self._checked) < CACHE_MAX:
                self._checked[text, bound] = label
        return label

    def check_command(self, words: Any) -> None:
        """``UsageError`` for a command that must not be sent, or where the target is no Redis."""
        if self._commands is None:
            raise UsageError(f"{self.scheme} takes SQL, no Redis commands", fix="use user.sql(…), or sql in the step")
        if not words:
            raise UsageError("a command needs a name", fix='user.redis("GET", "key")')
        self._commands.check(words)

    def question(self, step: Plan) -> Statement | Command:
        """What a declared step asks; ``UsageError`` where it must not, or is none for this target."""
        if step["sql"]:
            return statement_of(step["sql"], self._dialect(), self._writes_allowed)
        if not step["command"]:
            raise UsageError(f"the step {step['name'][:80]!r} is an HTTP request", why=f"the target is {self.scheme}", fix="give it sql = or command =")
        command = command_of(step["command"])
        self.check_command(command.words)
        return command

    def _dialect(self) -> Dialect:
        if self.scheme not in DIALECTS:
            raise UsageError("Redis takes commands, no SQL", fix="use user.redis(…), or command in the step")
        return DIALECTS[self.scheme]


def commands_of(dsn: str) -> dict[str, frozenset[str]]:
    """The flags of every command of a Redis server by its name, subcommands as ``config|get``. ``CannotMeasure`` where it is not there, or does not tell."""
    from perfloop.sql.redis import command_flags, connect_redis

    client = connect_redis(dsn)
    try:
        return command_flags(client)
    finally:
        client.close()


def make_client(plan: Plan) -> Callable[[], Client]:
    """What opens a connection to the plan's target."""
    scheme = place_of(plan["base_url"]).scheme
    module = import_module(f"perfloop.load.engines.stores.{'postgres' if scheme == 'postgresql' else scheme}")
    steps = [step for journey in plan["journeys"] for step in journey["steps"]] + list(plan["steps"])
    statement_max_s = max([plan["timeout_s"], *(step["timeout_s"] for step in steps if step["timeout_s"])])
    connect_max_s = min(CONNECT_MAX_S, plan["timeouts"]["connect_s"] or plan["timeout_s"])
    return cast("Callable[[], Client]", partial(module.Client, plan["dsn"], statement_max_s, connect_max_s, bool(plan["writes_allowed"])))


def store_world(plan: Plan, recorder: Recorder, data: Any) -> StoreWorld:
    """The world, with nothing sent yet."""
    timeouts = plan["timeouts"]
    sending = Sending(
        Route((), None, ""),
        recorder,
        own=owns(plan),
        timeout_s=plan["timeout_s"],
        first_byte_s=None,
        connections_max=plan["connections_max"],
        error_rate_stop=plan["error_rate_stop"],
    )
    connections = Connections(make_client(plan), plan["connections_max"], sending.own, timeouts["connect_s"])
    sending.pool = cast(Pool, connections)
    return StoreWorld(plan, recorder, sending, connections, data)


def declared_questions(journey: Plan, world: StoreWorld) -> Function:
    """The function of a declared journey of statements or commands; the first that fails ends the iteration."""
    return in_order([_Step(step, world) for step in journey["steps"]])


class _Step:
    def __init__(self, step: Plan, world: StoreWorld) -> None:
        self._question, self._column, self._timeout_s = world.question(step), world.recorder.column(step["name"]), step["timeout_s"]
        self.think_s = tuple(step["think_s"])
        for part in (*step["checks"], *step["extracts"]):
            if part["of"] in ("header", "cookie", "status"):
                raise UsageError(f"the step {step['name'][:80]!r} looks at a {part['of']}", why="its answer has none", fix='use of = "json", "body" or "size"')
        self.checks = [(check["name"] or check_name(check), make_check(check)) for check in step["checks"]]
        self.extracts = [(extract["name"], make_extract(extract)) for extract in step["extracts"]]

    def send(self, user: StoreUser) -> Any:
        """The question of this step, as something to await."""
        question = self._question
        if isinstance(question, Command):
            return user.ask(self._column, "", question.filled(user.vars, user.iteration), self._timeout_s)
        values = tuple(value(user.vars, user.iteration) for value in question.values)
        return user.ask(self._column, question.text, values, self._timeout_s)
