"""Services that never were, with planted faults: what the ranking is tuned on. Seeds below 1000 tune, others are held out.

A random call graph of services, some with a store. Per second: requests arrive by an autocorrelated process with a drift and bursts; CPU follows requests
with noise, background jobs and idle levels; memory is flat, drifting or a saw-tooth; latency is the own part over what CPU is left, plus that of the callees,
with a heavy tail. Everything is then smoothed as a monitoring system's rate window would. Faults: a CPU hog, memory (a step or a ramp; touching memory costs
CPU), delay, more load. In half of the cases before and after are two recordings, between which levels drift by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
ANY = "*"  # more load is everybody's; its load must stand first, no CPU that rose with it
FAULTS = ("cpu", "mem", "delay", "load", "none")


@dataclass(frozen=True)
class Case:
    """``values`` are rows of seconds; ``onset`` the row of the fault; ``component`` and ``kind`` what was planted (empty: nothing)."""

    names: tuple[str, ...]
    values: Array
    onset: int
    component: str
    kind: str


def case(seed: int, fault: str = "") -> Case:
    """One case; the fault is drawn where none is named."""
    rng = np.random.default_rng(seed)
    fault = fault or str(rng.choice(FAULTS))
    n = int(rng.integers(240, 900))
    onset = int(n * rng.uniform(0.25, 0.75))
    count = int(rng.integers(5, 14))
    services = [f"s{index}" for index in range(count)]
    calls = {j: [int(i) for i in rng.choice(np.arange(j), size=min(j, int(rng.integers(0, 3))), replace=False)] if j else [] for j in range(count)}
    stored = [index for index in range(count) if rng.random() < 0.4]
    victim = int(rng.integers(0, count))
    on = np.arange(n) >= onset
    if rng.random() < 0.2:
        on &= np.arange(n) < onset + max(60, (n - onset) // 2)
    loads = _loads(rng, n, count, calls)
    if fault == "load":
        surge = np.where(on, rng.uniform(1.6, 4.0), 1.0)
        loads = [load * surge for load in loads]
    recordings = bool(rng.random() < 0.5)
    if recordings and fault != "none":
        loads = [load * np.where(np.arange(n) >= onset, rng.lognormal(0, 0.05), 1.0) * level for load, level in _levels(rng, n, onset, loads)]
    columns: dict[str, Array] = {}
    own = {}
    for index, service in enumerate(services):
        cpu, memory = _resources(rng, n, loads[index])
        if index == victim and fault == "cpu":
            cpu = cpu + on * rng.uniform(20, 95) * _noise(rng, n, 0.03)
            memory = memory + on * rng.uniform(1e6, 15e6)  # of the hog itself
        if index == victim and fault == "mem":
            grown = np.clip((np.arange(n) - onset) / rng.uniform(1, 120), 0, 1) * on
            memory = memory * (1 + grown * rng.uniform(0.25, 2.5))
            cpu = cpu + on * rng.uniform(0, 40) * _noise(rng, n, 0.1)
        busy = np.clip(cpu / 100, 0, 0.97)
        own[index] = rng.uniform(0.001, 0.05) / (1 - busy) * _noise(rng, n, 0.1)
        if index == victim and fault == "delay":
            own[index] = own[index] + on * rng.uniform(0.05, 0.4) * _noise(rng, n, 0.1)
        columns[f"{service}_cpu"], columns[f"{service}_mem"] = cpu, memory
        if index in stored:
            cpu, memory = _resources(rng, n, loads[index])
            columns[f"{service}-db_cpu"], columns[f"{service}-db_mem"] = cpu, memory
    latency: dict[int, Array] = {}
    for index in range(count):
        latency[index] = own[index] + sum((latency[callee] for callee in calls[index]), np.zeros(n))
    shown = [index for index in range(count) if rng.random() < 0.6] + ([victim] if fault in ("delay", "load") else [])
    for index in sorted(set(shown)):
        slowest = latency[index] * (1 + rng.pareto(3, n))
        if fault not in ("load", "none") and rng.random() < 0.5:
            loads[index] = np.where(on & (index >= victim), loads[index] * rng.uniform(0.4, 1.0), loads[index])
        columns[f"{services[index]}_load"] = loads[index]
        columns[f"{services[index]}_lat_50"], columns[f"{services[index]}_lat_99"] = latency[index], slowest
    if recordings:
        for name in columns:
            columns[name] = np.where(np.arange(n) >= onset, columns[name] * rng.lognormal(0, 0.03), columns[name])
    width = int(rng.choice([1, 1, 15, 30, 60]))
    smooth = {name: column if "_mem" in name else _smoothed(column, width) for name, column in columns.items()}
    planted = {"cpu": "cpu", "mem": "mem", "delay": "lat", "load": "load", "none": ""}[fault]
    return Case(tuple(smooth), np.column_stack(list(smooth.values())), onset, ANY if fault == "load" else services[victim] if planted else "", planted)


def _levels(rng: np.random.Generator, n: int, onset: int, loads: list[Array]) -> list[tuple[Array, Array]]:
    """Each load with what it is multiplied by: another level of traffic in the second recording, the same for all."""
    level = np.where(np.arange(n) >= onset, rng.lognormal(0, 0.5), 1.0)
    return [(load, level) for load in loads]


def _noise(rng: np.random.Generator, n: int, size: float) -> Array:
    return np.asarray(rng.lognormal(0, size, n))


def _walk(rng: np.random.Generator, n: int, size: float, memory: float) -> Array:
    steps = rng.normal(0, size * np.sqrt(1 - memory * memory), n)
    out = np.empty(n)
    level = rng.normal(0, size)
    for index in range(n):
        level = memory * level + steps[index]
        out[index] = level
    return np.exp(out)


def _loads(rng: np.random.Generator, n: int, count: int, calls: dict[int, list[int]]) -> list[Array]:
    """Requests per second of each service: the roots get the arrivals, callees their callers' with a factor."""
    arrivals = rng.uniform(5, 200) * _walk(rng, n, rng.uniform(0.03, 0.25), rng.uniform(0.3, 0.97)) * np.linspace(1, rng.uniform(0.85, 1.15), n)
    loads = [np.zeros(n) for _ in range(count)]
    called = {callee for callees in calls.values() for callee in callees}
    for index in reversed(range(count)):
        if index not in called or index == count - 1:
            loads[index] = loads[index] + arrivals * rng.uniform(0.2, 1.0)
        for callee in calls[index]:
            loads[callee] = loads[callee] + loads[index] * rng.uniform(0.1, 1.0)
    return [load * _noise(rng, n, 0.05) for load in loads]


def _resources(rng: np.random.Generator, n: int, load: Array) -> tuple[Array, Array]:
    """CPU in percent and memory in bytes of one process."""
    cpu = rng.uniform(0.02, 3) + load / load.mean() * rng.uniform(0.05, 30) * _noise(rng, n, rng.uniform(0.03, 0.3))
    if rng.random() < 0.3:  # a job now and then
        every, long = int(rng.integers(30, 200)), int(rng.integers(2, 15))
        cpu = cpu + (np.arange(n) % every < long) * rng.uniform(1, 40)
    memory = rng.uniform(5e6, 8e8) * np.ones(n)
    style = rng.integers(0, 3)
    if style == 1:
        memory = memory * np.linspace(1, rng.uniform(1.0, 1.12), n)
    elif style == 2:
        memory = memory * (1 + (np.arange(n) % int(rng.integers(20, 200))) / 200 * rng.uniform(0.1, 0.5))
    return cpu, np.round(memory * _noise(rng, n, rng.choice([0.0, 0.0005, 0.01])) / 4096) * 4096


def _smoothed(column: Array, width: int) -> Array:
    sums = np.concatenate([np.zeros(1), np.cumsum(column)])
    at = np.arange(1, len(column) + 1)
    start = np.maximum(0, at - width)
    return np.asarray((sums[at] - sums[start]) / (at - start))
