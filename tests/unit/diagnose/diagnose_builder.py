"""Small evidences for rules, built from stacks written as text; shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perfloop.model.evidence import (
    Evidence,
    Frame,
    HostObservation,
    PeerTraffic,
    ProcessObservation,
    SocketsObservation,
    SoloObservation,
    SourceSnippet,
    Stack,
    StacksObservation,
)
from perfloop.model.run import HistogramData, StepSamples, Window
from perfloop.model.target import Environment, Process, Target
from perfloop.stats.histogram import bucket_of

ROOT = "/srv/app"
LIB = "/srv/app/.venv/lib/python3.11/site-packages"
STD = "/usr/lib/python3.11"

#: frames above a handler, by framework
FLASK = f"_bootstrap {STD}/threading.py:1 | handle {LIB}/gunicorn/workers/gthread.py:1 | wsgi_app {LIB}/flask/app.py:1 | dispatch_request {LIB}/flask/app.py:2"
FASTAPI = f"_bootstrap {STD}/threading.py:1 | run {LIB}/anyio/_backends/_asyncio.py:1"
ASYNC = f"<module> {ROOT}/main.py:9 | run {LIB}/uvicorn/main.py:1 | run {STD}/asyncio/runners.py:1 | run_forever {STD}/asyncio/base_events.py:1 | _run {STD}/asyncio/events.py:1 | app {LIB}/fastapi/routing.py:1"
DJANGO = f"_bootstrap {STD}/threading.py:1 | run {LIB}/gunicorn/workers/gthread.py:1 | inner {LIB}/django/core/handlers/exception.py:1 | _get_response {LIB}/django/core/handlers/base.py:1"
LOOP_IDLE = f"<module> {ROOT}/main.py:9 | run {STD}/asyncio/runners.py:1 | _run_once {STD}/asyncio/base_events.py:5 | select {STD}/selectors.py:1"
POOL_WAIT = f"_do_get {LIB}/sqlalchemy/pool/impl.py:1 | get {LIB}/sqlalchemy/util/queue.py:1 | wait {STD}/threading.py:1"
QUERY = f"execute {LIB}/sqlalchemy/orm/session.py:1 | do_execute {LIB}/sqlalchemy/engine/default.py:1 | execute {LIB}/psycopg/cursor.py:1"
HTTP = f"get {LIB}/requests/api.py:1 | urlopen {LIB}/urllib3/connectionpool.py:1 | getresponse {STD}/http/client.py:1 | readinto {STD}/socket.py:1"

Row = tuple[str, float, float]  # stack text, total samples, active samples


def frames(text: str) -> list[Frame]:
    """Frames from ``function file:line | …``; a bare file is in the application."""
    found = []
    for part in text.split(" | "):
        function, place = part.strip().split(" ")
        file, line = place.rsplit(":", 1)
        found.append(Frame(function=function, file=file if file.startswith(("/", "<")) else f"{ROOT}/{file}", line=int(line)))
    return found


def stacks(rows: Sequence[Row], window_s: float = 5.0) -> StacksObservation:
    """One process at 100 samples a second; each row is a thread of its own, but those on an event loop share one."""
    known: dict[Frame, int] = {}
    made = []
    for number, (text, total, active) in enumerate(rows):
        indexes = tuple(known.setdefault(frame, len(known)) for frame in frames(text))
        thread = "MainThread" if "asyncio/" in text else f"worker-{number}"
        made.append(Stack(thread=thread, frames=indexes, total=total, active=active))
    return StacksObservation(pid=7, sampler="test", rate_hz=100.0, window_s=window_s, frames=tuple(known), stacks=tuple(made))


def samples(name: str, count: int, mean_s: float, errors: Mapping[str, int] | None = None) -> StepSamples:
    """A step's samples, all with one latency."""
    data = HistogramData(buckets=(bucket_of(mean_s),), counts=(count,), sum_s=count * mean_s, max_s=mean_s) if count else HistogramData()
    return StepSamples(name=name, sent=count, ok=count, errors=dict(errors or {}), latency=data)


def solo(name: str, mean_s: float, rows: Sequence[Row] = (), requests: int = 50, peers: Mapping[str, tuple[int, float]] | None = None) -> SoloObservation:
    """A step alone; ``peers``: kind → (round trips, seconds waited) over the whole run."""
    window_s = requests * mean_s
    traffic = tuple(
        PeerTraffic(host="10.0.0.9", port=port, kind=kind, connections=1, round_trips=trips, waiting_s=waited)
        for port, (kind, (trips, waited)) in enumerate((peers or {}).items(), 8000)
    )
    seen = (stacks(rows, window_s),) if rows else ()
    sockets = SocketsObservation(window_s=window_s, samples=20, peers=traffic)
    return SoloObservation(step=name, window_s=window_s, requests=requests, samples=samples(name, requests, mean_s), cpu_s=None, sockets=sockets, stacks=seen)


def evidence(
    loaded: Mapping[str, tuple[int, float]],
    rows: Sequence[Row] = (),
    solos: Sequence[SoloObservation] = (),
    source: Mapping[str, tuple[int, str]] | None = None,
    cores: float = 0.3,
    **more: Any,
) -> Evidence:
    """Five seconds of load. ``loaded``: step → (requests, mean latency); ``source``: ``file:function`` → (first line, text)."""
    window = Window(label="look", started_at="", duration_s=5.0, rate_per_s=10.0, steps=tuple(samples(name, n, mean) for name, (n, mean) in loaded.items()))
    snippets = tuple(
        SourceSnippet(file=f"{ROOT}/{key.split(':')[0]}", function=key.split(":")[1], first_line=line, text=text)
        for key, (line, text) in (source or {}).items()
    )
    process = Process(pid=7, parent_pid=1, name="python", argv=(), cwd=ROOT, exe="", runtime="python", cpus=(0,))
    target = Target(
        name="app", url="http://127.0.0.1:1", host="127.0.0.1", port=1, local=True, environment=Environment.SANDBOX, processes=(process,), source_root=ROOT
    )
    fields: dict[str, Any] = {
        "host": HostObservation(window_s=5.0, cpu_count=2, cpu_busy=(0.3, 0.3)),
        "processes": (ProcessObservation(window_s=5.0, pid=7, cpu_s=5.0 * cores, rss_series=tuple((t / 4, 80_000_000) for t in range(20))),),
        "stacks": (stacks(rows or [(LOOP_IDLE, 500, 0)]),),
        **more,
    }
    return Evidence(target=target, window=window, solo=tuple(solos), source=snippets, **fields)
