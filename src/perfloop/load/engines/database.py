"""The engine for databases and caches: the processes of the HTTP engine, whose users ask PostgreSQL, MySQL, MariaDB or Redis instead.

Latency counts from the intended start of a question to the end of its answer, all rows fetched. Each question ends in exactly one class: ok, connect,
timeout_connect, timeout, reset, protocol, server_error (the server answered with an error), script or check. Bytes are counted where the driver shows them: Redis.
"""

from __future__ import annotations

from collections.abc import Generator
from importlib.util import find_spec

from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.engines import http
from perfloop.load.engines.base import End, Second
from perfloop.model.journey import Workload
from perfloop.model.limits import place_of

ID = "database"
DRIVERS = {
    "postgresql": ("psycopg", "pip install psycopg[binary]"),
    "mysql": ("aiomysql", "pip install 'perfloop[mysql]'"),
    "redis": ("redis", "pip install redis"),
}


def available() -> str:
    """Empty where the engine can run here, else what is missing. The driver of MySQL is an extra, looked for when it is needed."""
    return http.available()


def run(workload: Workload) -> Generator[Second, None, End]:
    """Sends one window as the HTTP engine does. ``UsageError`` for questions that may not be asked, ``CannotMeasure`` where a driver is missing."""
    check(workload)
    return (yield from http.send(workload))


def check(workload: Workload) -> None:
    """Everything that can be refused without asking the server."""
    from perfloop.load.engines.stores.questions import DIALECTS, command_of, statement_of  # a parser of SQL, which HTTP needs not

    try:
        scheme = place_of(workload.base_url).scheme
    except ValueError as error:
        raise UsageError("the address of the target cannot be used", why=str(error), fix="write postgresql://host:5432/name") from None
    module, fix = DRIVERS.get(scheme, ("", ""))
    if not module:
        raise UsageError(f"load cannot be sent to {scheme} directly", fix="use postgresql://, mysql://, mariadb:// or redis://")
    if reason := available():
        raise CannotMeasure("the load engine cannot run", why=reason, fix="pip install uvloop httptools")
    if find_spec(module) is None:
        raise CannotMeasure(f"load cannot be sent to {scheme} here", why=f"the driver {module} is not installed", fix=fix)
    for step in (step for journey in workload.all_journeys for step in journey.steps):
        if step.sql and scheme in DIALECTS:
            statement_of(step.sql, DIALECTS[scheme], workload.writes_allowed)
        elif step.command and scheme == "redis":
            command_of(step.command)
        else:
            raise UsageError(f"the step {step.name[:80]!r} is none for {scheme}", fix="give it command =" if scheme == "redis" else "give it sql =")
