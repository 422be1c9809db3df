"""The text of a first ``perfloop.toml``, filled in with what was discovered."""

from __future__ import annotations

import json

from perfloop.model.target import PeerKind, Target

_TEXT = """\
# What perfloop should know about this service. Every key is optional; `perfloop doctor` says what is missing.

[target]
url = {url}
# sandbox, staging or production: safeguards scale with it (in production every change needs a ticket and an approval).
environment = "staging"
{database}
# How to restart the service, for settings that it reads at start only; run without a shell, from this folder.
# restart_command = "systemctl restart my-service"

# What the service promises.
# [slo]
# latency_p95_ms = 200
# error_rate_max = 0.01

# What is sent. Without this, paths come from the service's OpenAPI document or an access log (GET only).
# [[journeys]]
# path = "/orders/{{1..1000}}"
# weight = 3

# [measure]
# rate_per_s = 50     # empty: half of the measured knee

# Settings that perfloop may change, one table for each.
# [[target.settings]]
# id = "pool-size"
# file = "config.toml"
# key = "database.pool_size"
# answers = ["pool-exhausted"]
# min = 1
# max = 50

# Where experiments may put a tap before a dependency (the service restarts before and after), to count and delay its round trips.
# [[target.taps]]
# peer = "postgresql"
# file = "config.toml"
# key = "database.url"

[changes]
allow = "none"        # none, safe, ask
"""
_DATABASE = """
# {found}References to DSNs (never the DSN itself): of a role that only reads, and of the role that owns the tables, for changes.
{comment}postgres = "env:PERFLOOP_POSTGRES"
# postgres_admin = "env:PERFLOOP_POSTGRES_ADMIN"
"""


def starter_config(target: Target | None = None) -> str:
    """The text of a ``perfloop.toml`` for a target that was discovered (or for none); it loads as it stands."""
    url = target.url if target else "http://127.0.0.1:8000"
    peer = next((peer for peer in target.peers if peer.kind == PeerKind.POSTGRESQL), None) if target else None
    found = f"It talks to PostgreSQL at {_clean(peer.host)}{f':{peer.port}' if peer.port else ''}. " if peer else ""
    # commented out until the variable exists: a reference that resolves to nothing is an error
    return _TEXT.format(url=_quoted(url), database=_DATABASE.format(found=found, comment="# ").rstrip("\n"))


def _clean(text: str) -> str:
    return "".join(sign for sign in text if sign.isprintable())


def _quoted(text: str) -> str:
    return json.dumps(_clean(text), ensure_ascii=False)
