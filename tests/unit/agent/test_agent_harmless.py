"""Whatever fails in the agent, the service goes on as if it were not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from perfloop.host.agent_link import has_agent
from perfloop.loop.running import environment


def under_agent(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    added = environment(env.pop("PYTHONPATH", ""))
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env={**os.environ, **added, **env}, capture_output=True, text=True, timeout=60, check=False
    )


BROKEN = """
    import sqlite3
    from perfloop_agent import counts
    def fail(*_): raise RuntimeError("broken agent")
    {broken}
    connection = sqlite3.connect(":memory:")
    assert connection.execute("SELECT 41 + 1").fetchone() == (42,)
    assert counts.failures[0] >= 1, counts.failures
    print("went on")
"""


@pytest.mark.parametrize("broken", ["counts._learn = fail", "counts._place = fail", "counts.current = None", "counts._raw.clear()", "counts.sys = None"])
def test_a_failure_while_counting_leaves_the_call_alone(broken):
    done = under_agent(BROKEN.format(broken=broken))
    assert (done.stdout, done.stderr) == ("went on\n", "")


def test_a_library_of_another_shape_is_left_as_it_is(tmp_path):
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "__init__.py").write_text("")
    (tmp_path / "redis" / "client.py").write_text("ANSWER = 42\n")
    done = under_agent("import redis.client; print(redis.client.ANSWER)", PYTHONPATH=str(tmp_path))
    assert (done.stdout, done.stderr) == ("42\n", "")


def test_the_sitecustomize_that_would_have_run_runs(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.mine = 1\n")
    done = under_agent("import sys; print(sys.mine, 'perfloop_agent' in sys.modules)", PYTHONPATH=str(tmp_path))
    assert (done.stdout, done.stderr) == ("1 True\n", "")


def test_what_a_library_raises_and_is_stays_the_same():
    done = under_agent("""
        import http.client, inspect, sqlite3
        connection = sqlite3.connect(":memory:", 5.0)
        assert isinstance(connection, sqlite3.Connection) and isinstance(connection.cursor(), sqlite3.Cursor)
        class Mine(sqlite3.Connection): pass
        assert type(sqlite3.connect(":memory:", factory=Mine)) is Mine
        try:
            connection.execute("SELECT ?", ())
        except sqlite3.ProgrammingError as error:
            print("same", type(error).__name__)
        assert list(inspect.signature(http.client.HTTPConnection.getresponse).parameters) == ["self"]
        import importlib.resources, http
        assert http.client.__spec__.loader.get_source("http.client")
    """)
    assert (done.stdout, done.stderr) == ("same ProgrammingError\n", "")


def test_a_forked_worker_counts_for_itself_and_the_exit_code_is_the_command_s():
    done = under_agent("""
        import os, sqlite3, sys
        from perfloop_agent import counts
        sqlite3.connect(":memory:").execute("SELECT 1")
        if os.fork() == 0:
            assert counts.snapshot()["outside"] == []
            os._exit(7)
        _, status = os.wait()
        assert len(counts.snapshot()["outside"]) == 1
        sys.exit(os.waitstatus_to_exitcode(status))
    """)
    assert (done.returncode, done.stderr) == (7, "")


def test_the_command_keeps_its_process_and_its_signals():
    process = subprocess.Popen(
        [sys.executable, "-m", "perfloop", "run", "--", sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"up\n"
        assert has_agent(process.pid)
    finally:
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM


def test_a_command_that_is_not_there_is_refused():
    done = subprocess.run([sys.executable, "-m", "perfloop", "run", "--", "no-such-program"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "there is no program 'no-such-program'" in done.stderr


def test_it_samples_its_own_stacks():
    from perfloop.observe.agent_stacks import AgentSampler

    script = """
        import threading, time
        def busy():
            while True: sum(range(1000))
        def idle():
            while True: time.sleep(0.01)
        for work in (busy, idle): threading.Thread(target=work, daemon=True).start()
        print("up", flush=True); time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env={**os.environ, **environment("")}, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"up\n"
        sampler = AgentSampler(process.pid, 100, 30)
        sampler.begin()
        time.sleep(1)
        seen = sampler.finish()
        sampler.close()
    finally:
        process.kill()
        process.wait()
    work = {
        name: [
            sum(s.total for s in seen.stacks if name in {seen.frames[i].function for i in s.frames}),
            sum(s.active for s in seen.stacks if name in {seen.frames[i].function for i in s.frames}),
        ]
        for name in ("busy", "idle")
    }
    assert seen.sampler == "perfloop-agent"
    assert work["busy"][0] > 0
    assert work["idle"][0] > 0
    assert work["busy"][1] / work["busy"][0] > work["idle"][1] / work["idle"][0]
    assert not any("perfloop_agent" in frame.file for frame in seen.frames)
