"""``perfloop capacity --replicas 1,2,3``: copies of the service behind an nginx of our own, closed load through it, and what each further one brings.

The copies are started as ``gate.start_command`` says, on free ports, with whatever databases the configuration of the service names; how long one takes
until it answers is its start-up time. All of it is ended at the end. What the copies share on this machine (cores, a database) is part of what is measured.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from perfloop.errors import CannotMeasure, PerfloopError, UsageError
from perfloop.host.http import fetch
from perfloop.host.worktree import free_port, running
from perfloop.loop.prepare import Session
from perfloop.loop.reach import point_of
from perfloop.model.base import Estimate
from perfloop.model.capacity import Replicas
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.target import Environment

USERS_EACH = 8
WINDOW_S, ROUNDS = 2.0, 3
COUNT_MAX = 16
CONF = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
access_log off;
keepalive_requests 100000000;
client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
upstream copies {{ least_conn; {servers} keepalive 64; keepalive_requests 100000000; }}
server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ proxy_pass http://copies; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; }} }}
}}
"""


def counts(text: str) -> tuple[int, ...]:
    """``1,2,4`` as numbers, ascending, each once; ``UsageError`` beyond 1 to 16."""
    found = sorted({int(part) for part in text.split(",") if part})
    if found and not 1 <= found[0] <= found[-1] <= COUNT_MAX:
        raise UsageError(f"replicas {text} are outside 1 to {COUNT_MAX}", fix="write --replicas 1,2,3")
    return tuple(found)


def measured(session: Session, wanted: tuple[int, ...]) -> Generator[Event, None, tuple[Replicas, ...]]:
    """Throughput by the number of copies, rounds up and down alternately; nothing with a note where it cannot be tried."""
    command, program = session.config.gate.start_command, shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if session.policy.environment == Environment.PRODUCTION or not command or program is None:
        why = (
            "this is production"
            if session.policy.environment == Environment.PRODUCTION
            else "nginx is not installed"
            if command
            else "gate.start_command says nothing"
        )
        session.note(f"no replicas were started: {why}")
        return ()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield PhaseStarted(
            phase="replicas", detail=f"{max(wanted)} copies behind nginx, {', '.join(map(str, wanted))} of them at a time", left_s=session.meter.left_s
        )
        took_s, ports = [], []
        for _ in range(max(wanted)):
            ports.append(free_port())
            began = time.monotonic()
            _answers(session, stack, command, session.base_dir, ports[-1])
            took_s.append(time.monotonic() - began)
        rates: dict[int, list[float]] = {count: [] for count in wanted}
        for number in range(ROUNDS):
            for count in wanted if number % 2 == 0 else reversed(wanted):
                rates[count].append((yield from _round(session, folder, program, ports[:count], number)))
    first = rates[wanted[0]]
    found = []
    for count, reached in rates.items():
        middle = median(reached)
        found.append(
            Replicas(
                count=count,
                rate_per_s=Estimate(value=middle, low=min(reached), high=max(reached), n=len(reached), unit="1/s", source="closed load through nginx"),
                efficiency=middle / median(first) * wanted[0] / count,
                startup_s=median(took_s),
            )
        )
        yield Told(text=f"{count} behind nginx: {middle:.0f} requests/s ({min(reached):.0f} to {max(reached):.0f})")
    return tuple(found)


def _round(session: Session, folder: Path, program: str, ports: list[int], number: int) -> Generator[Event, None, float]:
    """One window of closed users, as many for each copy, through an nginx that knows these copies."""
    port = free_port()
    (folder / "nginx.conf").write_text(CONF.format(folder=folder, port=port, servers=" ".join(f"server 127.0.0.1:{one};" for one in ports)))
    with ExitStack() as stack:
        _answers(session, stack, f"{program} -e {folder}/error.log -p {folder} -c {folder}/nginx.conf", folder, port)
        base = session.meter.workload(1.0, WINDOW_S, 700 + number)
        workload = base.with_(base_url=f"http://127.0.0.1:{port}", rate_per_s=0.0, users=USERS_EACH * len(ports), slot_s=max(0.1, WINDOW_S / 4))
        window = yield from session.meter.sent(f"{len(ports)} replicas", workload)
    point = point_of(window, number)
    if point.error_rate > 0.01:
        raise CannotMeasure(
            f"{len(ports)} copies behind nginx failed {point.error_rate:.0%} of the requests", fix="start two by hand: they may share a port or a file"
        )
    return point.achieved_per_s


def _answers(session: Session, stack: ExitStack, command: str, folder: Path, port: int) -> None:
    """Starts it and waits until it answers; ended with the stack."""
    process = stack.enter_context(running(command, folder, port))
    until = time.monotonic() + session.config.gate.start_timeout_s
    while True:
        try:
            fetch(f"http://127.0.0.1:{port}{session.config.target.health_path or '/'}")
            return
        except PerfloopError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise CannotMeasure("a copy of the service does not answer", why=error.what, fix=f"start it by hand: {command}") from None
            time.sleep(0.02)
