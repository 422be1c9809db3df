"""Stacks of a real threaded service: work, sleep and lock waits told apart."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter

import psutil
import pytest

from perfloop.model.evidence import StacksObservation
from perfloop.observe.base import Access
from perfloop.observe.probes import stacks as probe
from perfloop.observe.pyspy import STACKS_MAX, Ended, read_stacks, why_not
from perfloop.observe.runner import Observer, observe
from perfloop.observe.source import snippets


def look(service, *paths):
    observer = Observer(service.target, Access(pids=(service.pid,)), ("stacks",)).start()
    assert observer.wait_ready()
    service.get(*paths)
    return observer.stop()


def seconds(observation: StacksObservation, function: str) -> tuple[float, float]:
    wanted = {index for index, frame in enumerate(observation.frames) if frame.function == function}
    chosen = [stack for stack in observation.stacks if wanted & set(stack.frames)]
    return sum(stack.total for stack in chosen) / observation.rate_hz, sum(stack.active for stack in chosen) / observation.rate_hz


def top_active(observation: StacksObservation) -> str:
    leaves: Counter[str] = Counter()
    for stack in observation.stacks:
        leaves[observation.frames[stack.frames[-1]].function] += stack.active
    return leaves.most_common(1)[0][0]


def test_the_busy_function_is_the_top_active_frame_and_sleep_is_not_active(service):
    parts = look(service, *["/busy", "/sleep"] * 10)
    (observation,) = parts.stacks
    assert observation.pid == service.pid
    assert top_active(observation) == "busy_function"
    total, active = seconds(observation, "busy_function")
    assert total >= 0.6  # ten times 0.1 s of CPU; more where the machine is busy
    assert active >= 0.5 * total
    total, active = seconds(observation, "sleepy_function")
    assert total >= 0.6
    assert active <= 0.4 * total
    assert all(0 <= stack.active <= stack.total for stack in observation.stacks)
    assert any(stack.thread == "MainThread" for stack in observation.stacks)


def test_lock_waiters_are_seen_waiting_with_their_thread_names(service):
    (observation,) = look(service, *["/lock"] * 8).stacks
    total, active = seconds(observation, "wants_the_lock")
    assert total >= 1.0  # three waiters, 0.1 s each, eight times
    assert active <= 0.3 * total
    assert any(stack.thread.startswith("waiter-") for stack in observation.stacks)


def test_the_source_of_seen_functions_comes_with_it(service, tmp_path):
    (observation,) = look(service, "/busy", "/busy", "/sleep").stacks
    root = observation_root(observation)
    found = {snippet.function.rpartition(".")[2]: snippet for snippet in snippets([observation], root)}
    assert found["busy_function"].text.startswith("def busy_function(seconds: float) -> int:")
    assert found["busy_function"].text.rstrip().endswith("return count")
    assert not any("threading" in snippet.file or "socketserver" in snippet.file for snippet in found.values())
    assert snippets([observation], str(tmp_path)) == ()


def observation_root(observation: StacksObservation) -> str:
    return next(frame.file for frame in observation.frames if frame.file.endswith("planted_service.py")).rpartition("/")[0]


def test_a_process_that_ends_leaves_what_was_seen_or_a_reason(service):
    observer = Observer(service.target, Access(pids=(service.pid,)), ("stacks", "host")).start()
    assert observer.wait_ready()
    service.get("/busy", "/busy")
    service.process.kill()
    service.process.wait()
    parts = observer.stop()
    assert parts.host is not None
    assert parts.stacks or "any more" in parts.unavailable[0].reason


def test_a_process_that_is_gone_is_told(service):
    brief = subprocess.Popen([sys.executable, "-c", ""])
    brief.wait()
    target = service.target.with_(processes=(service.target.processes[0].with_(pid=brief.pid),))
    parts = observe(target, 0.1, Access(pids=(brief.pid,)), ("stacks",))
    assert not parts.stacks
    assert "does not run any more" in parts.unavailable[0].reason


def test_a_process_that_is_no_python_is_told(service):
    other = subprocess.Popen(["sleep", "10"])
    try:
        parts = observe(service.target, 0.1, Access(pids=(other.pid,)), ("stacks",))
        assert "Python" in parts.unavailable[0].reason
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize(
    ("facts", "reason", "fix"),
    [
        ({"in_container": True}, "CAP_SYS_PTRACE", "docker run --cap-add SYS_PTRACE"),
        ({"same_user": False}, "another user", "sudo -u"),
        ({"yama_scope": 1}, "Yama ptrace_scope is 1", "sysctl kernel.yama.ptrace_scope=0"),
        ({"yama_scope": 3}, "next boot", "reboot"),
        ({}, "not permitted", "SYS_PTRACE"),
        ({"exists": False}, "does not run", "start the service"),
    ],
)
def test_forbidden_ptrace_is_explained_with_the_exact_fix(facts, reason, fix):
    known = {"exists": True, "same_user": True, "yama_scope": 0, "in_container": False} | facts
    told = why_not(4121, "Permission Denied: Try running again with elevated permissions", **known)
    assert "4121" in told.reason
    assert reason in told.reason
    assert fix in told.fix


def test_a_sampler_that_is_refused_is_explained_and_the_rest_goes_on(service, tmp_path, monkeypatch):
    refused = tmp_path / "py-spy"
    refused.write_text("#!/bin/sh\necho 'Permission Denied: Try running again with elevated permissions' >&2\nexit 1\n")
    refused.chmod(0o755)
    monkeypatch.setattr(probe, "binary", lambda: str(refused))
    parts = observe(service.target, 0.2, Access(pids=(service.pid,)), ("stacks", "process"))
    (gone,) = parts.unavailable
    assert str(service.pid) in gone.reason
    assert "ptrace" in gone.reason
    assert gone.fix
    assert parts.processes


def test_without_py_spy_it_says_how_to_install_it(service, monkeypatch):
    monkeypatch.setattr(probe, "binary", lambda: None)
    parts = observe(service.target, 0.1, Access(pids=(service.pid,)), ("stacks",))
    assert parts.unavailable[0].fix == "pip install py-spy"


_OBSERVE_FOR_EVER = """
import sys, time
from perfloop.model.target import Environment, Target
from perfloop.observe.base import Access
from perfloop.observe.runner import Observer
target = Target(name="x", url="http://127.0.0.1:1", host="127.0.0.1", port=1, local=True, environment=Environment.SANDBOX)
observer = Observer(target, Access(pids=(int(sys.argv[1]),), scratch_dir=sys.argv[2]), ("stacks",)).start()
observer.wait_ready()
print("looking", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs util-linux")
def test_the_samplers_end_when_perfloop_is_killed(service, tmp_path):
    looker = subprocess.Popen(
        [sys.executable, "-c", _OBSERVE_FOR_EVER, str(service.pid), str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert looker.stdout is not None
        assert looker.stdout.readline() == b"looking\n"
        samplers = psutil.Process(looker.pid).children(recursive=True)
        assert len(samplers) == 2
    finally:
        looker.kill()
        looker.wait()
    _, alive = psutil.wait_procs(samplers, timeout=10)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def ended(lines: list[str]) -> Ended:
    return Ended(True, "Wrote", 1.0, 0, "\n".join(lines))


def test_the_output_is_read_with_spaces_semicolons_and_nameless_threads():
    text = "thread (7): pool 1;run (/a b/x.py:3);C.<lambda> (/a b/(old)/y.py:12) 4\nthread (8);main (/m.py:1) 2\nrubbish\n<frozen> stuff 1"
    found = list(read_stacks(text))
    assert found[0] == (("pool 1 (7)", (("run", "/a b/x.py", 3), ("C.<lambda>", "/a b/(old)/y.py", 12))), 4)
    assert found[1][0][0] == "thread 8"
    assert found[2] == (("?", (("<frozen> stuff", "", 0),)), 1)


def test_a_stack_only_in_the_active_run_gets_its_total_from_there_and_active_never_exceeds_total():
    merged = probe.merge(1, ended(["thread (1): Main;f (/f.py:1) 10"]), ended(["thread (1): Main;f (/f.py:1) 12", "thread (1): Main;g (/g.py:1) 3"]), 100)
    both = {merged.frames[stack.frames[-1]].function: (stack.total, stack.active) for stack in merged.stacks}
    assert both == {"f": (10.0, 10.0), "g": (3.0, 3.0)}


def test_names_shared_by_threads_keep_their_ids_and_unique_ones_do_not():
    merged = probe.merge(
        1, ended(["thread (1): worker;f (/f.py:1) 1", "thread (2): worker;f (/f.py:1) 1", "thread (3): MainThread;f (/f.py:1) 1"]), ended([]), 100
    )
    assert {stack.thread for stack in merged.stacks} == {"worker (1)", "worker (2)", "MainThread"}


def test_more_stacks_than_the_bound_are_merged_and_none_is_lost():
    lines = [f"thread (1): Main;f{n} (/f.py:{n + 1}) 1" for n in range(STACKS_MAX + 500)]
    merged = probe.merge(1, ended(lines), ended([]), 100)
    assert len(merged.stacks) == STACKS_MAX + 1
    assert sum(stack.total for stack in merged.stacks) == STACKS_MAX + 500
    assert any(frame.function == probe.OTHER for frame in merged.frames)
