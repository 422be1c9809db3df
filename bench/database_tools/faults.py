"""Runs one planted fault against a private server while a probe looks, and returns the names that the rule gives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from perfloop.diagnose.runner import diagnose
from perfloop.model.evidence import Evidence, Unavailable
from perfloop.model.target import Environment, Peer, PeerKind, Target
from perfloop.observe.base import Access, sort_parts

WINDOW_S = 3.0
Load = Callable[[threading.Event], None]


def named(probe: ModuleType, rule: ModuleType, access: Access, kind: PeerKind, loads: list[Load]) -> list[str]:
    """Findings of the rule, first first, after one window with these loads."""
    target = Target(
        name="bench",
        url="http://127.0.0.1",
        host="127.0.0.1",
        port=80,
        local=True,
        environment=Environment.SANDBOX,
        peers=(Peer(kind=kind, host="127.0.0.1", port=1),),
    )
    stop = threading.Event()
    threads = [threading.Thread(target=_forgiving, args=(load, stop), daemon=True) for load in loads]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    session: Any = probe.start(target, access)
    assert not isinstance(session, Unavailable), session
    try:
        session.begin()
        until = time.monotonic() + WINDOW_S
        while time.monotonic() < until:
            time.sleep(session.interval_s or 0.25)
            session.sample()
        words = session.finish()
    finally:
        stop.set()
        session.close()
        for thread in threads:
            thread.join(5)
    evidence = sort_parts([(probe.ID, words)], WINDOW_S).into(Evidence(target=target))
    return [finding.rule for finding in diagnose(evidence, {}, {rule.ID: rule}).findings]


def _forgiving(load: Load, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            load(stop)
        except Exception:  # noqa: BLE001 - a full server refuses, which is the fault
            time.sleep(0.01)
