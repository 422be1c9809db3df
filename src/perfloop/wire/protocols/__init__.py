"""What is said on a tapped connection, by protocol: each watcher reads copies of the bytes and never changes them."""

from __future__ import annotations

from importlib import import_module

from perfloop.wire.groups import Groups
from perfloop.wire.protocols.base import Opaque, Watcher

PROTOCOLS = ("tcp", "postgresql", "mysql", "redis", "http")


def watcher(protocol: str, groups: Groups) -> Watcher:
    """A watcher for one new connection."""
    if protocol == "tcp":
        return Watcher(groups)
    made: Watcher = import_module(f"perfloop.wire.protocols.{protocol}").Connection(groups)
    return made


__all__ = ["PROTOCOLS", "Opaque", "Watcher", "watcher"]
