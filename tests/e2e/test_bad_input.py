"""Bad input, on real processes: the exit code, a message with what, why and fix, and nothing changed left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVICE = Path(__file__).parent / "tiny_service.py"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def service(mode):
    port = free_port()
    process = subprocess.Popen([sys.executable, str(SERVICE), str(port), mode], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port, process
    finally:
        process.kill()
        process.wait()


CONFIG = """
[target]
url = "http://127.0.0.1:{port}"
environment = "sandbox"
{target}
[[journeys]]
path = "/"
[measure]
rate_per_s = 20
window_s = 1
windows = 3
warmup_s = 1
timeout_s = 2
[limits]
time_max_s = 60
"""


def command(folder, *words, **extra):
    environment = {**os.environ, "PERFLOOP_STATE_DIR": str(folder / "state"), "NO_COLOR": "1", **extra}
    return [sys.executable, "-m", "perfloop", *words], environment


def check(folder, port, target="", *words, **extra):
    (folder / "perfloop.toml").write_text(CONFIG.format(port=port, target=target))
    argv, environment = command(folder, *(words or ("check",)), **extra)
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)


def says(done, code, *texts):
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    for text in ("error: ", *texts):
        assert text in done.stderr, done.stderr


def test_a_url_that_refuses(tmp_path):
    says(check(tmp_path, free_port()), 3, "fix: ", "refused")


@pytest.mark.parametrize("mode", ["hangs", "garbage"])
def test_a_url_that_does_not_speak_http(tmp_path, mode):
    with service(mode) as (port, _):
        says(check(tmp_path, port), 3, "why: ", "fix: ")


def test_a_url_that_redirects_for_ever(tmp_path):
    with service("redirects") as (port, _):
        done = check(tmp_path, port, "", "check", f"http://127.0.0.1:{port}")
        says(done, 3, "redirect")


def test_a_service_that_only_fails(tmp_path):
    with service("fails") as (port, _):
        says(check(tmp_path, port), 3, "status_5xx", "fix: ")


def test_a_process_that_exits_during_the_run(tmp_path):
    with service("dies") as (port, _):
        says(check(tmp_path, port), 3, "why: ", "fix: ")


def test_a_database_that_is_not_there_moves_a_line_to_could_not_check(tmp_path):
    with service("ok") as (port, _):
        secret = f"postgresql://someone:hunter2@127.0.0.1:{free_port()}/nothing"
        done = check(tmp_path, port, 'postgres = "env:TEST_DSN"', TEST_DSN=secret)
    assert done.returncode == 0, done.stderr
    assert "postgres" in done.stdout
    for text in (done.stdout, done.stderr, *(path.read_text(errors="replace") for path in tmp_path.rglob("*.json*"))):
        assert "hunter2" not in text


def test_a_full_disk_is_refused_before_any_load(tmp_path):
    (tmp_path / ".perfloop").write_text("a file where the folder should be")
    with service("ok") as (port, _):
        says(check(tmp_path, port), 3, "fix: ")


def test_an_unknown_key_is_named_with_a_suggestion(tmp_path):
    says(check(tmp_path, free_port(), 'ulr = "x"'), 2, "target.ulr", "target.url")


def test_a_rate_out_of_bounds_is_named_with_its_bound(tmp_path):
    done = check(tmp_path, free_port(), "", "check", "--rate-per-s", "200000")
    assert done.returncode == 2
    assert "100" in done.stderr
    assert "pydantic" not in done.stderr


def test_a_remote_host_must_be_allowed_by_name(tmp_path):
    done = check(tmp_path, free_port(), "", "check", "http://192.0.2.1:80")
    says(done, 2, "192.0.2.1", "allow_hosts")


def test_ctrl_c_twice_ends_with_130_and_keeps_what_was_measured(tmp_path):
    with service("ok") as (port, _):
        (tmp_path / "perfloop.toml").write_text(CONFIG.format(port=port, target="").replace("windows = 3", "windows = 30"))
        argv, environment = command(tmp_path, "check")
        process = subprocess.Popen(argv, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if "baseline" in line:
                break
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert list((tmp_path / ".perfloop" / "runs").glob("*/run.json"))


def test_ptrace_forbidden_moves_the_stacks_to_could_not_check(tmp_path):
    """The service forbids tracing, and we lack the capability that overrides it: the run goes on, and says what would change that."""
    with service("undumpable") as (port, process):
        (tmp_path / "perfloop.toml").write_text(CONFIG.format(port=port, target=f'process = "{process.pid}"'))
        argv, environment = command(tmp_path, "check")
        if os.geteuid() == 0:
            argv = ["setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace", *argv]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "stacks" in done.stdout
    assert "ptrace" in done.stdout
