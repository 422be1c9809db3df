"""Small real services, each with one known end. ``python apps.py KIND PORT [DSN]``; standard library and what perfloop brings."""

import hashlib
import queue
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOCK = threading.Lock()
POOL_SIZES = {"pool": 4, "queries": 12}
CONNECTIONS: "queue.Queue" = queue.Queue()


class Pool:
    """A fixed number of connections, lent one at a time."""

    def connection(self):
        return self

    def __enter__(self):
        LOCAL.held_connection = CONNECTIONS.get()
        return LOCAL.held_connection

    def __exit__(self, *_):
        CONNECTIONS.put(LOCAL.held_connection)


LOCAL = threading.local()
pool = Pool()


def locked():
    """Half of the work alone, half beside the others."""
    time.sleep(0.004)
    with LOCK:
        time.sleep(0.006)
    return b"locked\n"


def pooled():
    """One query on one of four connections."""
    with pool.connection() as connection:
        row = connection.execute("SELECT pg_sleep(0.02), 1").fetchone()
    return b"%d\n" % row[1]


def queried():
    """One query that computes some 2 ms in the database, on one of twelve connections."""
    with pool.connection() as connection:
        row = connection.execute("SELECT sum(n * n) FROM generate_series(1, 12000) AS n").fetchone()
    return b"%d\n" % row[0]


class Handler(BaseHTTPRequestHandler):
    """Answers every GET by the service's kind."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one segment
    work = staticmethod(locked)

    def do_GET(self):
        body = self.work()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """With room for bursts."""

    request_queue_size = 512
    daemon_threads = True


async def app(scope, receive, send):
    """A single event loop that computes: some 4 ms of hashing a request."""
    if scope["type"] != "http":
        return
    digest = hashlib.pbkdf2_hmac("sha256", scope["path"].encode(), b"salt", 9_000).hex().encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"64")]})
    await send({"type": "http.response.body", "body": digest})


def main():
    """Serve until ended."""
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "cpu":
        import uvicorn

        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
        return
    if kind in POOL_SIZES:
        import psycopg

        for _ in range(POOL_SIZES[kind]):
            CONNECTIONS.put(psycopg.connect(sys.argv[3], autocommit=True))
    Handler.work = staticmethod({"lock": locked, "pool": pooled, "queries": queried}[kind])
    Server(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
