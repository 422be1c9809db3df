"""The host and process probes on a real process."""

from __future__ import annotations

import subprocess
import sys
import time

from perfloop.observe.base import Access
from perfloop.observe.runner import Observer, observe


def look(service, pids, *paths, probes):
    observer = Observer(service.target, Access(pids=pids), probes).start()
    assert observer.wait_ready()
    service.get(*paths)
    return observer.stop()


def test_cpu_time_of_the_service_is_counted(service):
    parts = look(service, (service.pid,), *["/busy"] * 8, probes=("process", "host"))
    (process,) = parts.processes
    assert 0.7 <= process.cpu_s <= 3
    assert parts.cpu_s == process.cpu_s
    assert process.threads >= 1
    assert process.fds > 0
    assert len(process.rss_series) >= 3
    assert all(size > 1_000_000 for _, size in process.rss_series)
    assert parts.host is not None
    assert len(parts.host.cpu_busy) == parts.host.cpu_count
    assert max(parts.host.cpu_busy) > 0.1
    assert all(0 <= share <= 1 for share in parts.host.cpu_busy)
    assert not parts.unavailable


def test_threads_that_end_in_the_window_keep_their_switches(service):
    parts = look(service, (service.pid,), *["/lock"] * 4, "/busy", "/busy", probes=("process",))
    (process,) = parts.processes
    assert process.voluntary_switches > 0


def test_a_waiting_service_uses_no_cpu(service):
    (process,) = look(service, (service.pid,), *["/sleep"] * 5, probes=("process",)).processes
    assert process.cpu_s < 0.2


def test_a_process_that_ends_is_unavailable_and_the_other_is_seen(service):
    brief = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.6)"])
    parts = look(service, (service.pid, brief.pid), *["/sleep"] * 10, probes=("process",))
    brief.wait()
    assert [process.pid for process in parts.processes] == [service.pid]
    (gone,) = parts.unavailable
    assert str(brief.pid) in gone.reason
    assert "into the window" in gone.reason
    assert gone.fix


def test_a_child_born_in_the_window_is_seen():
    code = "import subprocess, sys, time; time.sleep(0.5); p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(5)']); time.sleep(5); p.kill()"
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        from perfloop.model.target import Environment, Target

        target = Target(name="x", url="http://127.0.0.1:1", host="127.0.0.1", port=1, local=True, environment=Environment.SANDBOX)
        parts = observe(target, 1.5, Access(pids=(parent.pid,)), ("process",))
        pids = {process.pid for process in parts.processes}
        assert parent.pid in pids
        assert len(pids) == 2
    finally:
        for process in parts.processes:
            if process.pid != parent.pid:
                subprocess.run(["kill", str(process.pid)], check=False)
        parent.kill()
        parent.wait()


def test_a_remote_target_has_no_host_to_look_at(service):
    remote = service.target.with_(local=False)
    parts = observe(remote, 0.1, Access(), ("host", "process", "sockets", "stacks", "postgres"))
    assert parts.host is None
    assert {gone.probe for gone in parts.unavailable} == {"host", "process", "sockets", "stacks", "postgres"}
    assert all(gone.fix for gone in parts.unavailable)


def test_a_failing_probe_does_not_stop_the_others(service):
    class Broken:
        ID, NEEDS, COST = "broken", "", ""

        @staticmethod
        def start(target, access):
            raise RuntimeError("boom postgresql://u:geheim@h/d")

    from perfloop.observe.probes import process

    parts = observe(service.target, 0.2, Access(pids=(service.pid,)), plugins={"broken": Broken, "process": process})
    assert len(parts.processes) == 1
    (gone,) = parts.unavailable
    assert gone.probe == "broken"
    assert "boom" in gone.reason
    assert "geheim" not in gone.reason


def test_an_unknown_probe_is_told(service):
    parts = observe(service.target, 0.05, Access(), ("nonsense",))
    assert "nonsense" in parts.unavailable[0].reason
    assert "stacks" in parts.unavailable[0].fix


def test_the_window_is_as_long_as_the_look(service):
    observer = Observer(service.target, Access(pids=(service.pid,)), ("process",)).start()
    observer.wait_ready()
    began = time.monotonic()
    time.sleep(0.5)
    parts = observer.stop()
    assert abs(parts.window_s - (time.monotonic() - began)) < 0.3
    assert observer.stop() is parts
