"""A threaded service with planted behaviour, run as its own process by the tests: PORT PEER_PORT [DSN]."""

import http.server
import socket
import sys
import threading
import time

LOCK = threading.Lock()
PEERS = threading.local()


def busy_function(seconds: float) -> int:
    until, count = time.thread_time() + seconds, 0
    while time.thread_time() < until:
        for i in range(2000):
            count += i * i % 7
    return count


def sleepy_function() -> None:
    time.sleep(0.1)


def holds_the_lock() -> None:
    with LOCK:
        time.sleep(0.1)


def wants_the_lock() -> None:
    with LOCK:
        pass


def ask_peer(times: int) -> None:
    connection = getattr(PEERS, "connection", None)
    if connection is None:
        connection = PEERS.connection = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    for _ in range(times):
        connection.sendall(b"ping")
        connection.recv(100)


def lock_threads() -> None:
    threads = [threading.Thread(target=holds_the_lock), *(threading.Thread(target=wants_the_lock, name=f"waiter-{i}") for i in range(3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def query(statement: str) -> None:
    import psycopg

    with psycopg.connect(sys.argv[3], application_name="planted") as connection:
        connection.execute(statement.encode())


ACTIONS = {
    "/busy": lambda: busy_function(0.1),
    "/sleep": sleepy_function,
    "/lock": lock_threads,
    "/peer": lambda: ask_peer(5),
    "/slow-query": lambda: query("select count(*) from items a, generate_series(1, 20) g where a.note like '%secret-literal%' or a.grp + g = 7"),
    "/update": lambda: query("update items set note = 'other' where id = 42"),
    "/none": lambda: None,
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        ACTIONS[self.path]()
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
