"""``perfloop try --tune PRODUCT``: the facts that the candidates of a product depend on, read from the servers that the configuration or the target names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from perfloop.change import keyed
from perfloop.change.base import ChangeContext, absolute_reference
from perfloop.change.kinds.nginx_setting import FORM
from perfloop.change.postgres import connected
from perfloop.change.tuning import Facts, candidates_for
from perfloop.errors import CannotMeasure, ChangeRefused, UsageError
from perfloop.host import cgroup, machine
from perfloop.host.processes import allowed_cpus
from perfloop.model.finding import Proposal
from perfloop.model.target import Target
from perfloop.sql.redis import connect_redis, redis_text

_NGINX_KEYS = (
    "worker_processes",
    "events.multi_accept",
    *(f"http.{name}" for name in ("gzip_static", "gzip_comp_level", "open_file_cache", "sendfile", "tcp_nopush", "gzip_proxied")),
)


def proposals(product: str, target: Target, context: ChangeContext) -> tuple[Proposal, ...]:
    """The candidates for one product; ``UsageError`` where it is not known where that runs."""
    return candidates_for(product, _FACTS[product](target, context))


def _postgresql(target: Target, context: ChangeContext) -> Facts:
    reference = absolute_reference(context.config.target.postgres_admin, context.base_dir)
    if not reference:
        raise UsageError("no PostgreSQL is named", why="target.postgres_admin is empty", fix='set target.postgres_admin = "env:NAME" to a superuser\'s DSN')
    with connected(reference, context, "tuning") as connection:
        rows = connection.execute("SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings").fetchall()
    return _facts({str(name): str(value) for name, value in rows}, {"dsn_ref": reference})


def _redis(target: Target, context: ChangeContext) -> Facts:
    import redis

    reference = absolute_reference(context.config.target.redis_admin, context.base_dir)
    if not reference:
        raise UsageError("no Redis is named", why="target.redis_admin is empty", fix='set target.redis_admin = "env:NAME" to its DSN')
    client = connect_redis(context.resolve(reference))
    try:
        settings = {str(name): str(value) for name, value in client.config_get("*").items()}
    except redis.RedisError as error:
        raise CannotMeasure("Redis did not tell its settings", why=redis_text(error), fix="check the grants of that user") from None
    finally:
        client.close()
    return _facts(settings, {"dsn_ref": reference})


def _nginx(target: Target, context: ChangeContext) -> Facts:
    words = _master(target, "nginx")[1]
    conf = Path(words[words.index("-c") + 1]) if "-c" in words[:-1] else Path("/etc/nginx/nginx.conf")
    settings: dict[str, str] = {}
    for key in _NGINX_KEYS:
        try:
            settings[key] = str(keyed.value(conf, key, FORM) or "")
        except ChangeRefused:  # no such block: the plan will say so
            continue
    return _facts(settings, {"conf": str(conf)})


def _gunicorn(target: Target, context: ChangeContext) -> Facts:
    master, _ = _master(target, "gunicorn")
    return _facts({"workers": str(len(psutil.Process(master).children()))}, {"pid": master})


def _master(target: Target, name: str) -> tuple[int, list[str]]:
    """The oldest process behind the target's URL that has this name in its command line, and that line."""
    pids = {process.pid for process in target.processes} | {process.parent_pid for process in target.processes}
    found = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            words = " ".join(process.cmdline()).split()
            if name in " ".join(words[:4]) and "worker" not in words[:3]:
                found.append((process.create_time(), pid, words))
        except psutil.Error:
            continue
    if not found:
        raise UsageError(f"no {name} is behind {target.url}", why="none of its processes has that name", fix=f"name the URL that {name} listens on")
    _, pid, words = min(found)
    return pid, words


def _facts(settings: dict[str, str], where: dict[str, Any]) -> Facts:
    whole = machine.memory()["MemTotal"]
    group = cgroup.memory(1)
    return Facts(min(whole, group.limit_bytes) if group else whole, len(allowed_cpus()), settings, where)


_FACTS = {"postgresql": _postgresql, "redis": _redis, "nginx": _nginx, "gunicorn": _gunicorn}
