"""What the threads of a real process wait for, its garbage collector read from outside, its control group, and answers of a real server."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from perfloop.model.journey import Step
from perfloop.observe.answers import answers
from perfloop.observe.base import Access
from perfloop.observe.runner import observe

COLLECTS = """
import gc, time
class Node: pass
keep = [Node() for _ in range(200000)]
spent, begun = 0.0, 0.0
def count(phase, info):
    global spent, begun
    if phase == "start": begun = time.perf_counter()
    else: spent += time.perf_counter() - begun
gc.callbacks.append(count)
print("ready", flush=True)
input()
start, spent = time.perf_counter(), 0.0
while time.perf_counter() - start < 2.0:
    kept = []
    for _ in range(20000):
        node = Node(); node.me = node; kept.append([node])
print(spent / (time.perf_counter() - start), flush=True)
input()
"""


def test_a_thread_that_waits_for_a_peer_is_told_with_the_peer(service, peer_port):
    with service.behind(*["/peer"] * 8):
        time.sleep(0.1)
        parts = observe(service.target, 0.8, Access(pids=(service.pid,)), ("waits",))
    (waits,) = parts.waits
    assert waits.samples >= 4
    waiting = {(thread.syscall, thread.peer) for thread in waits.threads if thread.samples}
    assert any(peer == f"127.0.0.1:{peer_port}" and call in ("recvfrom", "poll", "ppoll", "read", "select") for call, peer in waiting), waiting
    assert any(thread.state == "S" for thread in waits.threads)


def test_the_collectors_share_is_what_the_process_itself_says():
    process = subprocess.Popen([sys.executable, "-c", COLLECTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        target = _target(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        parts = observe(target, 1.9, Access(pids=(process.pid,)), ("collector",))
        own = float(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
    (seen,) = parts.collector
    assert seen.samples >= 30
    assert len(seen.collections) == 3
    assert seen.collections[0] > seen.collections[2] >= 1
    assert abs(seen.collecting / seen.samples - own) < 0.25
    assert own > 0.2


def test_the_collector_of_what_is_no_python_is_unavailable():
    process = subprocess.Popen(["sleep", "30"])
    try:
        parts = observe(_target(process.pid), 0.1, Access(pids=(process.pid,)), ("collector",))
    finally:
        process.kill()
        process.wait()
    (gap,) = parts.unavailable
    assert "Python" in gap.reason


def test_the_quota_of_a_control_group_is_seen():
    group = Path("/sys/fs/cgroup/cpu") / f"perfloop-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("20000")
    except OSError:  # we may make no group here: then there is at least our own to look at
        parts = observe(_target(os.getpid()), 0.1, Access(pids=(os.getpid(),)), ("cgroup",))
        assert parts.cgroup is not None
        assert parts.cgroup.throttled_s >= 0
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        (group / "tasks").write_text(str(process.pid))
        parts = observe(_target(process.pid), 0.8, Access(pids=(process.pid,)), ("cgroup", "process"))
    finally:
        process.kill()
        process.wait()
        group.rmdir()
    assert parts.cgroup is not None
    assert parts.cgroup.cpu_limit_cores == pytest.approx(0.2)
    assert parts.cgroup.throttled_periods >= 3
    assert parts.cgroup.throttled_s > 0.2


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"page": 1, "rows": [{"id": number, "name": "a chair"} for number in range(700)]}).encode()
        if self.path == "/small":
            body = gzip.compress(body)
        self.send_response(200)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        if self.path == "/small":
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_an_answer_tells_its_size_items_and_compression():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    steps = (Step(name="plain", paths=("/plain",)), Step(name="small", paths=("/small",)), Step(name="post", method="POST", paths=("/",)))
    try:
        plain, small = answers(f"http://127.0.0.1:{server.server_address[1]}", steps)
    finally:
        server.shutdown()
        server.server_close()
    assert plain.items == small.items == 700
    assert plain.closes
    assert plain.content_type == "application/json"
    assert plain.gzip_bytes < plain.body_bytes / 3
    assert small.content_encoding == "gzip"
    assert small.gzip_bytes is None
    assert small.body_bytes < plain.body_bytes / 3


def _target(pid):
    from perfloop.model.target import Environment, Process, Target

    process = Process(pid=pid, parent_pid=1, name="p", argv=(), cwd="/", exe="")
    return Target(name="p", url="http://127.0.0.1:1", host="127.0.0.1", port=1, local=True, environment=Environment.SANDBOX, processes=(process,))
