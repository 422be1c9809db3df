"""HTTP/2 against a real nginx, with TLS and without, and against peers that answer badly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfloop.errors import CannotMeasure
from perfloop.model.journey import Check, Journey, Script, Step, Workload
from services import Server, nginx
from services.dask import certificates

PLACES = """
http2_max_concurrent_streams 4;
location / { add_header Set-Cookie "who=me"; return 200 "hello\\n"; }
location /large { alias %s; }
location /cookie { return 200 "$http_cookie"; }
location /missing { return 404; }
location /away { return 302 /hello; }
location /body { client_max_body_size 10m; client_body_buffer_size 1k; proxy_pass http://127.0.0.1:%s/echo; }
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, files: dict[str, str], nginx_server: Server) -> Iterator[Server]:
    """HTTP/2 by TLS; connections are ended after 30 requests."""
    folder = tmp_path_factory.mktemp("secure")
    (folder / "large.txt").write_text("x" * 300_000)
    tls = f"ssl_certificate {files['cert']}; ssl_certificate_key {files['key']}; keepalive_requests 30;"
    with nginx(folder, PLACES % (folder / "large.txt", nginx_server.port) + tls, listen="ssl http2") as server:
        yield server


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with nginx(tmp_path_factory.mktemp("plain"), listen="http2") as server:
        yield server


def work(server: Server, files: dict[str, str] | None, **words) -> Workload:
    given = {
        "rate_per_s": 100,
        "duration_s": 0.8,
        "arrival": "constant",
        "timeout_s": 3.0,
        "http_version": "2",
        "steps": (Step(name="x", paths=("/hello",)),),
        **words,
    }
    if given.get("users"):
        given["rate_per_s"] = 0.0
    if given.get("script") or given.get("journeys"):
        given["steps"] = ()
    scheme = "https" if files else "http"
    return Workload(base_url=f"{scheme}://127.0.0.1:{server.port}", ca_file=files["ca"] if files else "", **given)


def protocols(server: Server) -> set[str]:
    return {line.split('"')[1].rsplit(" ", 1)[1] for line in (server.folder / "access.log").read_text().splitlines()}


@pytest.mark.parametrize("words", [{}, {"users": 3}, {"users": 3, "own_connection": False}])
def test_every_request_is_answered_though_connections_end_in_between(secure: Server, files, sent, words) -> None:
    window = sent(work(secure, files, **words))
    (step,) = window.steps
    assert step.errors == {}, window.first_errors
    assert step.ok == step.sent >= 80
    assert step.statuses == {200: step.ok}
    assert protocols(secure) == {"HTTP/2.0"}


def test_without_tls_by_prior_knowledge(plain: Server, sent) -> None:
    window = sent(work(plain, None))
    assert window.steps[0].ok == 80
    assert protocols(plain) == {"HTTP/2.0"}


def test_the_server_chooses(secure: Server, nginx_server: Server, tmp_path: Path, files, sent) -> None:
    assert sent(work(secure, files, http_version="auto")).steps[0].ok == 80
    assert sent(work(nginx_server, None, http_version="auto")).steps[0].ok == 80  # no TLS, so nothing is offered
    tls = f"ssl_certificate {files['cert']}; ssl_certificate_key {files['key']}; location / {{ return 200 ok; }}"
    with nginx(tmp_path, tls, listen="ssl") as old:
        assert sent(work(old, files, http_version="auto")).steps[0].ok == 80
        assert protocols(old) == {"HTTP/1.1"}
        with pytest.raises(CannotMeasure, match="does not speak HTTP/2"):
            sent(work(old, files))


def test_large_bodies_both_ways_and_what_a_journey_sees(secure: Server, files, sent, tmp_path: Path) -> None:
    (tmp_path / "j.py").write_text(
        "async def visit(user):\n"
        "    large = await user.get('/large')\n"
        "    user.check('whole', len(large.body) == 300_000)\n"
        "    sent = await user.post('/body', body='y' * 200_000)\n"
        "    user.check('posted', sent.text == 'hello\\n' and sent.header('content-length') == '6')\n"
        "    missing = await user.get('/missing')\n"
        "    user.check('missing', missing.status == 404)\n"
    )
    window = sent(work(secure, files, users=3, script=Script(file=str(tmp_path / "j.py")), error_rate_stop=1.0))
    steps = {step.name: step for step in window.steps}
    assert {check.name: check.failed for check in window.checks} == {"whole": 0, "posted": 0, "missing": 0}
    assert steps["GET /large"].ok > 2
    assert steps["GET /large"].bytes_in > 300_000 * steps["GET /large"].ok
    assert steps["GET /missing"].errors == {"status_4xx": steps["GET /missing"].sent}


def test_declared_journeys_with_cookies_and_redirects(secure: Server, files, sent) -> None:
    steps = (
        Step(name="first", paths=("/hello",)),
        Step(name="second", paths=("/cookie",), checks=(Check(of="body", equals="who=me"),)),
        Step(name="third", paths=("/away",), redirects_max=1, checks=(Check(of="body", contains="hello"),)),
    )
    window = sent(work(secure, files, users=2, journeys=(Journey(name="j", steps=steps),)))
    assert window.journeys[0].ok > 3
    assert window.journeys[0].errors == {}, window.first_errors


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "protocol"),  # it speaks something else
        (b"", "reset"),
        (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x02", "reset"),  # settings, RST_STREAM
        (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", "protocol"),  # a frame larger than allowed
    ],
)
def test_bad_answers_end_in_exactly_one_class(serve, sent, answer: bytes, error: str) -> None:
    async def bad(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        await asyncio.sleep(0.02)
        writer.write(answer)
        await writer.drain()
        if answer:
            await asyncio.sleep(0.1)

    port = serve(bad)
    given = {"rate_per_s": 20, "duration_s": 0.5, "arrival": "constant", "timeout_s": 1.0, "http_version": "2", "error_rate_stop": 1.0}
    window = sent(Workload(base_url=f"http://127.0.0.1:{port}", steps=(Step(name="x", paths=("/",)),), **given))
    assert set(window.steps[0].errors) <= {error, "reset"}
    assert error in window.steps[0].errors


def test_a_server_that_never_answers_is_a_timeout(serve, sent) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            pass

    port = serve(silent)
    given = {"rate_per_s": 20, "duration_s": 0.4, "arrival": "constant", "timeout_s": 0.3, "http_version": "2", "error_rate_stop": 1.0}
    window = sent(Workload(base_url=f"http://127.0.0.1:{port}", steps=(Step(name="x", paths=("/",)),), **given))
    assert window.steps[0].errors == {"timeout": 8}
