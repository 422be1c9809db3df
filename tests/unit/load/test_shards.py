"""Several worker processes send exactly the workload, together, and the kill switch ends them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from perfloop.errors import CannotMeasure
from perfloop.load.engines import http, room
from perfloop.load.run import run_window
from perfloop.load.stop import generators, stop_load
from perfloop.model.arrival import Replay, Stage
from perfloop.model.journey import Feed, Journey, Step, Workload

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def workload(port: int, **words) -> Workload:
    return Workload(**{"base_url": f"http://127.0.0.1:{port}", "steps": (Step(name="GET /", paths=("/",)),), "duration_s": 0.8, "timeout_s": 2.0, **words})


def run(given: Workload):
    load = http.run(given)
    seconds = []
    while True:
        try:
            seconds.append(next(load))
        except StopIteration as stop:
            return seconds, stop.value


def rest_of(load):
    while True:
        try:
            next(load)
        except StopIteration as stop:
            return stop.value


def test_two_processes_send_the_same_arrivals_as_one(serve, answering, sent):
    port = serve(answering(OK))
    _, one = run(workload(port, rate_per_s=100, seed=3))
    _, two = run(workload(port, rate_per_s=100, seed=3, workers=2))
    assert one.arrived == two.arrived
    assert sent(workload(port, rate_per_s=100, seed=3, workers=2)).steps[0].ok == sum(count for _, count in one.arrived)


def test_rows_and_users_are_shared_out_without_overlap(serve, sent, tmp_path):
    seen: Counter[str] = Counter()

    async def handle(reader, writer):
        while True:
            seen[(await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()] += 1
            writer.write(OK)
            await writer.drain()

    (tmp_path / "n.csv").write_text("n\n" + "\n".join(str(n) for n in range(1000)))
    journey = Journey(name="n", steps=(Step(name="n", paths=("/${n}",)),), feeds=(Feed(file=str(tmp_path / "n.csv")),), think_s=(0.05, 0.05))
    window = sent(workload(serve(handle), steps=(), journeys=(journey,), users=5, workers=2))
    assert max(seen.values()) == 1
    assert {f"/{n}" for n in range(5)} <= set(seen)  # the first iteration of each user
    assert window.per_second[0].users in (0, 5)


def test_shards_elsewhere_begin_at_the_agreed_time_and_take_over_a_lost_part(serve, answering):
    port = serve(answering(OK))
    whole = workload(port, rate_per_s=50, arrival="constant", start_at_s=time.time() + 0.7)
    parts = whole.sharded(2)
    lost = parts[1].with_(shard=parts[1].shard.with_(from_s=0.4))
    results: list[tuple] = []
    threads = [threading.Thread(target=lambda given=part: results.append(run(given))) for part in (parts[0], lost)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = sorted(sum(count for _, count in end.arrived) for _, end in results)
    assert counts == [10, 20]  # half of what is due from 0.4 s on, and half of all
    assert {end.started_at for _, end in results} == {whole.start_at_s}


def test_a_killed_process_among_several_is_no_measurement(serve, answering):
    load = http.run(workload(serve(answering(OK)), rate_per_s=20, duration_s=30, workers=2))
    next(load)
    children = [child for child in psutil.Process().children() if http.WORKER in child.cmdline()]
    assert len(children) == 2
    children[1].kill()
    with pytest.raises(CannotMeasure, match="ended before"):
        list(load)
    assert not [child for child in psutil.Process().children() if http.WORKER in child.cmdline()]


def test_the_kill_switch_ends_the_load_of_one_run_and_keeps_what_was_measured(serve, answering):
    port = serve(answering(OK))
    mine, other = (run_window(workload(port, rate_per_s=50, duration_s=30, run_id=name), name) for name in ("test-run-a", "test-run-b"))
    next(mine)
    next(other)
    (stopped,) = stop_load("test-run-a")
    assert (stopped.run_id, stopped.how) == ("test-run-a", "stopped")
    window = rest_of(mine)
    assert window.stopped_early == "ended by perfloop stop"
    assert 0 < window.duration_s < 25
    assert window.steps[0].ok > 10
    assert [run for _, _, run in generators() if run.startswith("test-run")] == ["test-run-b"]
    other.close()


def test_the_kill_switch_kills_what_does_not_listen(serve, answering, monkeypatch):
    monkeypatch.setattr("perfloop.load.stop.PATIENCE_S", 0.3)
    load = run_window(workload(serve(answering(OK)), rate_per_s=50, duration_s=30, run_id="test-run-deaf"), "x")
    next(load)
    ((pid, _, _),) = generators("test-run-deaf")
    psutil.Process(pid).suspend()
    assert [item.how for item in stop_load("test-run-deaf")] == ["killed"]
    with pytest.raises(CannotMeasure, match="ended before"):
        list(load)


def test_perfloop_stop_says_what_it_did(serve, answering, project):
    load = run_window(workload(serve(answering(OK)), rate_per_s=50, duration_s=30, run_id="test-run-cli"), "x")
    next(load)
    command = [sys.executable, "-m", "perfloop", "stop", "test-run-cli", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(Path(http.__file__).parents[3])})
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [item["run_id"] for item in answer["stopped"]] == ["test-run-cli"]
    list(load)
    assert "No load is running" in subprocess.run(command[:-1], capture_output=True, text=True, check=True).stdout


def test_a_stage_and_a_replay_are_split_exactly(serve, answering, sent):
    port = serve(answering(OK))
    stages = (Stage(duration_s=0.5, level=100), Stage(duration_s=0.3, level=0))
    assert sent(workload(port, stages=stages, arrival="constant", workers=3)).steps[0].ok == 40
    assert sent(workload(port, replay=Replay(times_s=tuple(i / 20 for i in range(15))), workers=2)).steps[0].ok == 15


def test_a_limit_of_open_files_makes_more_processes_and_what_one_cannot_hold_is_told_before_any_request(monkeypatch):
    limits = {"now": (100, 100)}
    monkeypatch.setattr(room.resource, "getrlimit", lambda _: limits["now"])

    def refused(_, wanted):
        if wanted[1] > 100:
            raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(room.resource, "setrlimit", refused)
    assert room.processes_needed(30) == 1
    assert room.processes_needed(500) == 14  # 36 each, beside the 64 for everything else
    monkeypatch.setattr(room, "_hurry", lambda _: None)
    with pytest.raises(room.OursError, match="500 users with a connection each need 564 open files; the limit is 100") as raised:
        room.make_room(json.loads(workload(1, users=500).model_dump_json()))
    assert "ulimit" in raised.value.fix


def test_too_few_local_ports_are_told_before_any_request(serve, answering, sent):
    with pytest.raises(CannotMeasure) as raised:
        sent(workload(serve(answering(OK)), users=45_000))
    assert "local ports" in raised.value.what
    assert "source_addresses" in raised.value.fix


def test_connections_come_from_the_source_addresses_in_turn(serve, sent):
    seen: Counter[str] = Counter()

    async def handle(reader, writer):
        seen[writer.get_extra_info("peername")[0]] += 1
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            await writer.drain()

    sent(workload(serve(handle), users=4, source_addresses=("127.0.0.2", "127.0.0.3")))
    assert seen == {"127.0.0.2": 2, "127.0.0.3": 2}
