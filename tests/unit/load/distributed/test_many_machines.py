"""Load from several machines: a real scheduler, and workers in network namespaces of their own, one of them killed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.distributed import cluster as cluster_module
from perfloop.load.distributed.cluster import refuse_plain
from perfloop.load.distributed.engine import Workers
from perfloop.load.run import Progress, run_window
from perfloop.model.config import WorkersConfig
from perfloop.model.journey import Step, Workload
from perfloop.model.run import Window
from services.dask import Cluster, dask_cluster, dask_namespaces


@pytest.fixture
def target() -> Iterator[Callable[[], tuple[int, list[int]]]]:
    """A server on all addresses that counts the requests of each number in its path."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    seen: list[int] = [0]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                seen[0] += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    async def listen() -> int:
        return (await asyncio.start_server(handle, "0.0.0.0", 0)).sockets[0].getsockname()[1]

    yield lambda: (asyncio.run_coroutine_threadsafe(listen(), loop).result(10), seen)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


def files(cluster: Cluster) -> WorkersConfig:
    folder = cluster.folder
    return WorkersConfig(ca_file=str(folder / "ca.pem"), cert_file=str(folder / "cert.pem"), key_file=str(folder / "key.pem"))


def work(cluster: Cluster, port: int, **words) -> Workload:
    return Workload(
        **{"base_url": f"http://{cluster.target_host}:{port}", "steps": (Step(name="GET /", paths=("/",)),), "arrival": "constant", "timeout_s": 2.0, **words}
    )


def send(engine: Workers, workload: Workload, on: Callable[[Progress], None] = lambda progress: None) -> Window:
    load = run_window(workload, "many", engine)
    while True:
        try:
            on(next(load))
        except StopIteration as stop:
            return stop.value


@pytest.fixture(scope="module")
def far(tmp_path_factory) -> Iterator[Cluster]:
    with dask_namespaces(tmp_path_factory.mktemp("far"), 3, {"PERFLOOP_ALLOW_HOSTS": ",".join(f"198.18.{i}.1" for i in range(256))}) as cluster:
        yield cluster


def test_rates_split_exactly_and_nothing_is_lost(far, target):
    port, seen = target()
    engine = Workers(far.address, files(far))
    window = send(engine, work(far, port, rate_per_s=200, duration_s=1.5))
    assert window.steps[0].sent == window.steps[0].ok == seen[0] == 300
    assert sum(window.steps[0].latency.counts) == 300
    assert [shard.sent for shard in engine.reports] == [100, 100, 100]
    assert all(shard.state == "done" and shard.worker.startswith("tls://198.18.") for shard in engine.reports)
    assert all(abs(shard.clock_offset_s) < 0.5 for shard in engine.reports)  # the namespaces share our clock
    assert sum(second.ok for second in window.per_second) == 300


def test_users_split_exactly(far, target):
    port, _ = target()
    engine = Workers(far.address, files(far))
    window = send(engine, work(far, port, users=7, think_s=(0.2, 0.2), duration_s=1.2))
    assert sorted(shard.users for shard in engine.reports) == [2, 2, 3]
    assert max(second.users for second in window.per_second) == 7


def test_a_target_that_the_worker_does_not_allow(far, target):
    port, seen = target()
    with pytest.raises(UsageError, match="may not be loaded"):
        send(Workers(far.address, files(far)), work(far, port, rate_per_s=10, duration_s=1).with_(base_url=f"http://192.0.2.7:{port}"))
    assert seen[0] == 0


def test_other_versions_are_refused(far, target, monkeypatch):
    port, seen = target()
    monkeypatch.setattr(cluster_module, "__version__", "0.0.1")
    with pytest.raises(UsageError, match="has perfloop"):
        send(Workers(far.address, files(far)), work(far, port, rate_per_s=10, duration_s=1))
    monkeypatch.setattr("perfloop.load.distributed.engine.__version__", "0.0.1")
    monkeypatch.setattr(cluster_module, "machines", cluster_module.machines)
    assert seen[0] == 0


def test_the_worker_refuses_other_versions_itself(far, target, monkeypatch):
    port, seen = target()
    monkeypatch.setattr("perfloop.load.distributed.engine.__version__", "0.0.1")
    with pytest.raises(UsageError, match="this worker has perfloop"):
        send(Workers(far.address, files(far)), work(far, port, rate_per_s=10, duration_s=1))
    assert seen[0] == 0


def test_a_plain_scheduler_beyond_loopback_is_refused():
    for address in ("tcp://198.18.0.1:8786", "tcp://scheduler.internal:8786"):
        with pytest.raises(UsageError, match="not encrypted"):
            refuse_plain(address)
    refuse_plain("tcp://127.0.0.1:8786")
    refuse_plain("tls://scheduler.internal:8786")
    with pytest.raises(UsageError, match="certificates"):
        send(
            Workers("tls://127.0.0.1:1", WorkersConfig()),
            Workload(base_url="http://127.0.0.1:1", steps=(Step(name="a", paths=("/",)),), rate_per_s=1, duration_s=1),
        )


def test_nobody_there(tmp_path):
    with dask_cluster(tmp_path, 0) as cluster, pytest.raises(CannotMeasure, match="no worker"):
        send(Workers(cluster.address, WorkersConfig()), work(cluster, 1, rate_per_s=1, duration_s=1))


def kill_one(cluster: Cluster, at_s: float) -> Callable[[Progress], None]:
    """Kills a worker that lives, once, in the middle. The tests that use it stand last: the others want all three."""
    done: list[int] = []

    def on(progress: Progress) -> None:
        if progress.elapsed_s >= at_s and not done:
            done.append(1)
            os.killpg(next(worker for worker in cluster.workers if worker.poll() is None).pid, signal.SIGKILL)

    return on


def test_a_lost_share_is_taken_over(far, target):
    port, _ = target()
    engine = Workers(far.address, files(far), take_over=True)
    window = send(engine, work(far, port, rate_per_s=90, duration_s=5), kill_one(far, 1.0))
    assert sorted(shard.state for shard in engine.reports[:3]) == ["done", "done", "lost"], engine.reports
    lost, taken = next(shard for shard in engine.reports if shard.state == "lost"), engine.reports[3:]
    assert "taken over by" in lost.note
    assert {shard.state for shard in taken} == {"done"}
    assert 30 <= sum(shard.sent for shard in taken) < 150
    assert window.steps[0].sent == sum(shard.sent for shard in engine.reports)


def test_a_killed_worker_is_reported_and_never_sent_again(far, target):
    port, seen = target()
    engine = Workers(far.address, files(far))
    window = send(engine, work(far, port, rate_per_s=60, duration_s=4), kill_one(far, 1.0))
    (lost,), done = ([shard for shard in engine.reports if shard.state == state] for state in ("lost", "done"))
    assert "lost after" in lost.note
    assert done
    share = 240 // len(engine.reports)
    assert {shard.sent for shard in done} == {share}
    assert lost.sent < share
    assert window.steps[0].sent == sum(shard.sent for shard in done) + lost.sent
    assert seen[0] < 240
