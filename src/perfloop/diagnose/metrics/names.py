"""What a column of metrics is about, read from its name: the component, and the kind of thing that is measured."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """Kinds of metrics. A resource can be a cause; latency and errors are what a cause does to those who wait; load is what comes in."""

    MEMORY = "memory"
    DISK = "disk"
    NETWORK = "network"
    CPU = "cpu"
    LOAD = "load"
    ERRORS = "errors"
    LATENCY = "latency"
    OTHER = "other"


RESOURCES = frozenset({Kind.MEMORY, Kind.DISK, Kind.NETWORK, Kind.CPU})
SYMPTOMS = frozenset({Kind.LATENCY, Kind.ERRORS})

_WORDS: dict[str, Kind] = {
    **dict.fromkeys(("cpu", "cores"), Kind.CPU),
    **dict.fromkeys(("mem", "memory", "rss", "heap", "swap", "oom"), Kind.MEMORY),
    **dict.fromkeys(("disk", "diskio", "io", "iops", "fs", "fsync", "blkio", "reads", "writes", "read", "write"), Kind.DISK),
    **dict.fromkeys(("net", "network", "rx", "tx", "socket", "sockets", "retransmits", "receive", "transmit", "packets", "conntrack"), Kind.NETWORK),
    **dict.fromkeys(("lat", "latency", "duration", "rt", "response", "p50", "p90", "p95", "p99", "ttfb"), Kind.LATENCY),
    **dict.fromkeys(("err", "error", "errors", "failures", "failed", "5xx", "4xx"), Kind.ERRORS),
    **dict.fromkeys(("load", "lod", "rps", "qps", "tps", "rate", "requests", "request", "workload", "throughput", "calls", "hits"), Kind.LOAD),
}
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_COMPONENT_LABELS = ("service", "service_name", "app", "container", "deployment", "name", "pod", "instance", "job")
_SPLIT = re.compile(r"[_.:/ ]|(?<=[a-z0-9])-(?=(?:latency|cpu|mem|memory|error|errors|load|disk|p\d\d)\b)")
_NUMBERED = re.compile(r"([a-z]+)[-]?\d+%?$")  # latency-50, lat90
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Named(NamedTuple):
    """``component`` is empty where the name tells none."""

    component: str
    kind: Kind


def named(column: str) -> Named:
    """``carts-db_cpu``, ``ts-order-service_latency-50``, ``container_cpu_usage{pod="carts-7"}``, ``orders.heapUsed`` …"""
    metric, brace, labels = column.partition("{")
    if brace:
        given = dict(_LABEL.findall(labels))
        component = next((given[label] for label in _COMPONENT_LABELS if given.get(label)), "")
        return Named(component, _kind(_SPLIT.split(metric)))
    words = [word for word in _SPLIT.split(metric) if word]
    first = next((index for index, word in enumerate(words) if _of(word) is not Kind.OTHER), len(words))
    if first == 0:
        return Named("", _kind(words))
    if first == len(words):
        return Named(words[0] if len(words) > 1 else "", Kind.OTHER)
    at = metric.find(words[first], sum(len(word) for word in words[:first]))
    return Named(metric[:at].rstrip("_.:/- "), _kind(words[first:]))


def _kind(words: list[str]) -> Kind:
    """The first kind that is named; a duration or an error wins over the load in whose name it stands (``request_duration``, ``request_errors``)."""
    found = [kind for word in words if (kind := _of(word)) is not Kind.OTHER]
    if not found:
        return Kind.OTHER
    strong = next((kind for kind in found if kind in SYMPTOMS), None)
    return strong if strong and found[0] is Kind.LOAD else found[0]


def _of(word: str) -> Kind:
    numbered = _NUMBERED.match(word.lower())
    for part in (word.lower(), *(numbered.groups() if numbered else ()), *(piece.lower() for piece in _CAMEL.split(word))):
        if part in _WORDS:
            return _WORDS[part]
    return Kind.OTHER
