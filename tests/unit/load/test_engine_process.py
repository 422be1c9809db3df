"""The engine's process: it ends with its parent, with the window, and says so when it is killed."""

from __future__ import annotations

import datetime
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from perfloop.errors import CannotMeasure, UsageError
from perfloop.load.engines import BUILTIN, http
from perfloop.load.run import generator_ok, run_window
from perfloop.model.journey import Step, Workload

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def workload(port: int, **words) -> Workload:
    return Workload(**{"base_url": f"http://127.0.0.1:{port}", "steps": (Step(name="GET /", paths=("/",)),), "rate_per_s": 20, "duration_s": 30, **words})


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if http.WORKER in child.cmdline()]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_killed_generator_is_no_measurement(serve, answering):
    load = run_window(workload(serve(answering(OK))), "x")
    next(load)
    (worker,) = workers()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(CannotMeasure) as raised:
        for _ in load:
            pass
    assert "signal 9" in raised.value.why
    assert raised.value.fix
    assert not workers()


def test_closing_the_window_ends_the_load(serve, answering):
    load = run_window(workload(serve(answering(OK))), "x")
    next(load)
    (worker,) = workers()
    load.close()
    assert gone(worker)


def test_ctrl_c_ends_the_load(serve, answering):
    load = run_window(workload(serve(answering(OK))), "x")
    next(load)
    (worker,) = workers()
    with pytest.raises(KeyboardInterrupt):
        load.throw(KeyboardInterrupt)
    assert gone(worker)


def test_a_stopped_generator_is_killed_by_its_id(serve, answering):
    load = run_window(workload(serve(answering(OK))), "x")
    next(load)
    (worker,) = workers()
    worker.suspend()
    load.close()
    assert gone(worker)


def test_the_load_ends_when_the_parent_is_killed(serve, answering):
    code = "import sys; from perfloop.load.run import run_window; from perfloop.model.journey import Workload\nfor _ in run_window(Workload.model_validate_json(sys.argv[1]), 'x'): print('second', flush=True)"
    source = Path(http.__file__).parents[3]
    parent = subprocess.Popen(
        [sys.executable, "-c", code, workload(serve(answering(OK))).model_dump_json()], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(source)}
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"second\n"
        (worker,) = psutil.Process(parent.pid).children()
    finally:
        parent.kill()
        parent.wait()
    until = time.monotonic() + 5
    while not gone(worker) and time.monotonic() < until:
        time.sleep(0.02)
    assert gone(worker)


def test_a_core_that_is_not_there(serve, answering):
    with pytest.raises(CannotMeasure) as raised:
        list(run_window(workload(serve(answering(OK)), cpu=4095), "x"))
    assert "4095" in raised.value.why


def test_a_slow_reader_does_not_hold_up_the_load(serve, answering):
    load = run_window(workload(serve(answering(OK)), duration_s=2.0, arrival="constant"), "x")
    next(load)
    time.sleep(2.5)  # a consumer that does something else for longer than the window
    *_, last = load
    assert last.ok == 40


@pytest.mark.parametrize(
    ("late_s", "p50_s", "ok"),
    [(0.0009, 0.0001, True), (0.0011, 0.0001, False), (0.009, 0.1, True), (0.011, 0.1, False), (0.0005, None, True), (0.002, None, False)],
)
def test_the_rule_for_a_late_generator(late_s, p50_s, ok):
    assert generator_ok(late_s, p50_s) is ok
    assert not generator_ok(late_s, p50_s, busy=0.95)


def test_the_engine_is_a_plug_in():
    assert "perfloop.load.engines.http" in BUILTIN
    assert http.ID == "http"
    assert http.available() == ""


def certificate(folder: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_tls_with_a_ca_of_ones_own_and_without(serve, answering, window, tmp_path):
    pytest.importorskip("cryptography")
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    port = serve(answering(OK), tls=context)
    trusted = window(port, base_url=f"https://localhost:{port}", ca_file=str(pem))
    assert trusted.steps[0].ok == 24
    untrusted = window(port, base_url=f"https://localhost:{port}")
    assert untrusted.steps[0].errors == {"connect": 24}


def test_a_certificate_is_shown_where_the_server_asks_for_one(serve, answering, window, tmp_path):
    pytest.importorskip("cryptography")
    pem = str(certificate(tmp_path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(pem)
    port = serve(answering(OK), tls=context)
    shown = window(port, base_url=f"https://localhost:{port}", tls={"ca_file": pem, "cert_file": pem})
    assert shown.steps[0].ok == 24
    hidden = window(port, base_url=f"https://localhost:{port}", ca_file=pem)
    assert hidden.steps[0].ok == 0
    assert set(hidden.steps[0].errors) <= {"connect", "reset", "protocol"}
    with pytest.raises(UsageError, match="does not exist"):
        window(port, tls={"key_file": "/nowhere.pem"})
