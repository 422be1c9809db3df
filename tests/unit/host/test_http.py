"""The client against real, bad servers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from perfloop.errors import CannotMeasure, PerfloopError, UsageError
from perfloop.host.http import fetch


@contextmanager
def server(answer: Callable[[socket.socket, bytes], None]) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                answer(connection, connection.recv(65536))
            except OSError:
                pass

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def reply(text: bytes) -> Callable[[socket.socket, bytes], None]:
    return lambda connection, _request: connection.sendall(text)


def complete(error: PerfloopError) -> bool:
    return bool(error.what and error.why and error.fix)


def test_an_answer() -> None:
    got: list[bytes] = []

    def answer(connection: socket.socket, request: bytes) -> None:
        got.append(request)
        connection.sendall(b"HTTP/1.1 404 No\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello")

    with server(answer) as url:
        response = fetch(url + "/a?b=c", headers=[("X-One", "1")])
    assert (response.status, response.body, response.header("server")) == (404, b"hello", "x")
    assert got[0].startswith(b"GET /a?b=c HTTP/1.1\r\n")
    assert b"X-One: 1\r\n" in got[0]
    assert response.elapsed_s > 0


def test_post_sends_its_body() -> None:
    got: list[bytes] = []

    def answer(connection: socket.socket, request: bytes) -> None:
        while b"body!" not in request:
            request += connection.recv(1000)
        got.append(request)
        connection.sendall(b"HTTP/1.1 204 Ok\r\n\r\n")

    with server(answer) as url:
        assert fetch(url, method="POST", body=b"body!").status == 204
    assert b"Content-Length: 5\r\n" in got[0]


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(CannotMeasure, match="nothing listens") as caught:
        fetch(f"http://127.0.0.1:{port}")
    assert complete(caught.value)
    assert caught.value.exit_code == 3


def hang(connection: socket.socket, _request: bytes) -> None:
    time.sleep(5)


def drip(connection: socket.socket, _request: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 Ok\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(100):
        connection.sendall(b"x")
        time.sleep(0.05)


def drip_headers(connection: socket.socket, _request: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 Ok\r\n")
    for _ in range(100):
        connection.sendall(b"X-A: b\r\n")
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [hang, drip, drip_headers])
def test_the_deadline_holds_for_everything_together(answer: Callable[[socket.socket, bytes], None]) -> None:
    started = time.monotonic()
    with server(answer) as url, pytest.raises(CannotMeasure, match=r"did not answer within 0\.4 s") as caught:
        fetch(url, timeout_s=0.4)
    assert complete(caught.value)
    assert time.monotonic() - started < 4  # noticed long before the server would have ended


@pytest.mark.parametrize(
    "text",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x01\x02",
        b"",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 Ok\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 Ok\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 Ok\r\nA: " + b"a" * 70_000,
    ],
)
def test_garbage(text: bytes) -> None:
    with server(reply(text)) as url, pytest.raises(CannotMeasure) as caught:
        fetch(url, timeout_s=2)
    assert complete(caught.value)


def test_redirects_are_followed() -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"GET /end "):
            connection.sendall(b"HTTP/1.1 200 Ok\r\nContent-Length: 2\r\n\r\nok")
        else:
            connection.sendall(b"HTTP/1.1 303 See\r\nLocation: /end\r\nContent-Length: 0\r\n\r\n")

    with server(answer) as url:
        response = fetch(url, method="POST", body=b"x")
    assert response.body == b"ok"
    assert response.url.endswith("/end")


def test_redirect_loops() -> None:
    count = iter(range(1000))

    def onward(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 302 F\r\nLocation: /%d\r\nContent-Length: 0\r\n\r\n" % next(count))

    for answer in (onward, reply(b"HTTP/1.1 302 F\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")):
        with server(answer) as url, pytest.raises(CannotMeasure, match="redirects for ever") as caught:
            fetch(url + "/")
        assert complete(caught.value)


def test_credentials_stay_with_their_host() -> None:
    got: list[bytes] = []

    def second(connection: socket.socket, request: bytes) -> None:
        got.append(request)
        connection.sendall(b"HTTP/1.1 200 Ok\r\nContent-Length: 0\r\n\r\n")

    with server(second) as other, server(reply(f"HTTP/1.1 302 F\r\nLocation: {other}/\r\nContent-Length: 0\r\n\r\n".encode())) as url:
        assert fetch(url, headers=[("Authorization", "Bearer abc"), ("X-Y", "z")]).status == 200
    assert b"Bearer" not in got[0]
    assert b"X-Y: z" in got[0]


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 Ok\r\nContent-Length: 5000000\r\n\r\n", b"HTTP/1.1 200 Ok\r\n\r\n"])
def test_a_huge_body(head: bytes) -> None:
    with server(reply(head + b"x" * 200_000)) as url, pytest.raises(CannotMeasure, match="too large") as caught:
        fetch(url, max_bytes=100_000)
    assert complete(caught.value)


def test_no_tls_there() -> None:
    with server(reply(b"HTTP/1.1 400 Bad\r\n\r\n")) as url, pytest.raises(CannotMeasure, match="TLS") as caught:
        fetch(url.replace("http:", "https:"))
    assert complete(caught.value)


def test_unknown_host() -> None:
    with pytest.raises(CannotMeasure, match=r"not known|did not answer") as caught:
        fetch("http://no-such-host.invalid/")
    assert complete(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop",
        "ftp://a/b",
        "http://",
        "http://a:99999/",
        "http://a b/",
        "http://[::1",
        "http://127.0.0.1/\r\nX: y",
        "http://x:0/",
        "postgresql://u:geheim@h/db",
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        fetch(url)
    assert complete(caught.value)
    assert "geheim" not in caught.value.render()
