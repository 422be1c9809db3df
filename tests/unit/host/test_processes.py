"""Real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perfloop.errors import CannotMeasure, UsageError
from perfloop.host import cgroup, machine, processes, procfs

GONE = 2**22 + 1


def test_our_own_numbers() -> None:
    pid = os.getpid()
    before = processes.cpu_seconds([pid])
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert processes.cpu_seconds([pid]) > before
    stat = procfs.read_stat(pid)
    assert stat.parent_pid == os.getppid()
    assert stat.threads >= 1
    assert procfs.rss_bytes(pid) > 1_000_000
    assert procfs.fd_count(pid) >= 3
    assert procfs.argv(pid)
    assert procfs.link(pid, "cwd") == str(Path.cwd())
    assert any("python" in name for name in procfs.mapped_files(pid))
    assert sum(procfs.context_switches(pid)) > 0
    scheduled = procfs.read_schedstat(pid)
    assert scheduled is None or scheduled.cpu_s > 0
    assert processes.start_time_s(pid) == stat.started_s
    assert cgroup.limits(pid).path.startswith("/")


def test_a_process_that_is_gone() -> None:
    assert processes.start_time_s(GONE) is None
    assert processes.descendants(GONE) == ()
    assert processes.cpus_of(GONE) == ()
    for call in (
        lambda: processes.cpu_seconds([GONE]),
        lambda: procfs.rss_bytes(GONE),
        lambda: procfs.fd_count(GONE),
        lambda: processes.pin(GONE, [0]),
        lambda: procfs.read_schedstat(GONE),
    ):
        with pytest.raises(CannotMeasure) as caught:
            call()
        assert str(GONE) in caught.value.what
        assert caught.value.fix
    assert cgroup.limits(GONE).cpu_cores is None
    assert cgroup.throttling(GONE) is None


def test_a_name_with_parentheses_and_spaces(tmp_path: Path) -> None:
    link = tmp_path / "a) b ("
    link.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(link), "5"])
    try:
        stat = procfs.read_stat(child.pid)
        assert (stat.pid, stat.parent_pid) == (child.pid, os.getpid())
        assert child.pid in processes.descendants(os.getpid())
    finally:
        child.kill()
        child.wait()


def test_listening() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert processes.listening_pids("127.0.0.1", port) == (os.getpid(),)
        assert processes.listening_pids("localhost", port) == (os.getpid(),)
        assert processes.listening_pids("127.0.0.2", port) == ()
    assert processes.listening_pids("127.0.0.1", port) == ()


def test_local_addresses() -> None:
    assert processes.is_local("127.0.0.1")
    assert processes.is_local("localhost")
    assert processes.is_local("[::1]")
    assert not processes.is_local("192.0.2.1")
    assert not processes.is_local("no-such-host.invalid")


def test_pin() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10)"])
    try:
        core = processes.allowed_cpus()[0]
        processes.pin(child.pid, [core])
        assert processes.cpus_of(child.pid) == (core,)
        with pytest.raises(UsageError, match="cannot pin"):
            processes.pin(child.pid, [4000])
    finally:
        child.kill()
        child.wait()


def test_commands() -> None:
    done = processes.run_command([sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"])
    assert (done.returncode, done.stdout, done.stderr, done.ok, done.timed_out) == (3, "out\n", "err\n", False, False)
    assert processes.run_command("printf '%s' 'a; b $HOME'").stdout == "a; b $HOME"
    assert processes.run_command([sys.executable, "-c", "import os; print(sorted(os.environ))"], env={"A": "b"}).stdout.count("HOME") == 0


def test_a_command_that_does_not_end_is_ended_with_its_children() -> None:
    done = processes.run_command(["sh", "-c", "sleep 60 & echo $!; sleep 60"], timeout_s=0.5)
    assert done.timed_out
    assert not done.ok
    deadline = time.monotonic() + 5
    while processes.start_time_s(int(done.stdout)) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_a_command_starts_in_the_background_goes_on() -> None:
    done = processes.run_command(["sh", "-c", "sleep 20 & echo $!"], timeout_s=10)
    assert done.ok
    pid = int(done.stdout)
    assert processes.start_time_s(pid) is not None
    os.kill(pid, 9)


def test_output_is_bounded() -> None:
    done = processes.run_command([sys.executable, "-c", "print('x' * 300_000 + 'end')"])
    assert len(done.stdout) <= 64 * 1024
    assert done.stdout.endswith("end\n")


@pytest.mark.parametrize("command", ["", "'open", [], ["a\0b"]])
def test_what_is_no_command(command: str | list[str]) -> None:
    with pytest.raises(UsageError):
        processes.run_command(command)


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(CannotMeasure) as caught:
        processes.run_command("/no/such/program --x")
    assert caught.value.fix


def test_the_machine() -> None:
    assert len(machine.cpu_times()) >= len(processes.allowed_cpus()) >= 1
    assert machine.memory()["MemTotal"] > 2**20
    assert "pgfault" in machine.vm_counters()
    assert "RetransSegs" in machine.network_counters()
    assert "ListenOverflows" in machine.network_counters()
    found = machine.pressure("cpu")
    assert found is None or found.some_s >= 0
    assert machine.pressure("nothing") is None
