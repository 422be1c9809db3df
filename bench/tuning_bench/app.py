"""The service in front of a server: ``app.py postgresql DSN PORT``, ``app.py redis SERVER_PORT PORT``; or, for gunicorn, ``app:wsgi``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

TREE = """
WITH RECURSIVE tree AS (
    SELECT id, name, 1 AS depth FROM categories WHERE id = %s
    UNION ALL SELECT c.id, c.name, tree.depth + 1 FROM categories c JOIN tree ON c.parent_id = tree.id)
SELECT tree.name, tree.depth, count(*), avg(p.price), max(p.price) FROM tree JOIN products p ON p.category_id = tree.id
GROUP BY tree.name, tree.depth ORDER BY 4 DESC, 1 LIMIT 20"""
LISTS, MEMBERS, FRIENDS, TTL_S = 60, 120, 60, 2
local = threading.local()


def category_report(dsn: str) -> Callable[[int], str]:
    """What a category and all below it sell for."""
    import psycopg

    def answer(number: int) -> str:
        if not hasattr(local, "connection"):
            local.connection = psycopg.connect(dsn, autocommit=True)
        rows = local.connection.execute(TREE, (11 + number % 80,)).fetchall()
        return "\n".join(" ".join(map(str, row)) for row in rows)

    return answer


def common_interests(port: str) -> Callable[[int], str]:
    """How many interests a user shares with others; the lists are a cache that forgets after two seconds."""
    import redis

    client = redis.Redis(port=int(port), decode_responses=True)

    def filled(user: int) -> None:
        key = f"interests:{user}"
        with client.pipeline() as pipe:
            pipe.zadd(key, {f"interest number {(user * 37 + i * 11) % 4000}": i for i in range(MEMBERS)})
            pipe.expire(key, TTL_S)
            pipe.execute()

    def answer(number: int) -> str:
        users = [(number * 7 + i) % LISTS for i in range(FRIENDS)]
        with client.pipeline(transaction=False) as pipe:
            for user in users:
                pipe.exists(f"interests:{user}")
            known = pipe.execute()
        for user, there in zip(users, known, strict=True):
            if not there:
                filled(user)
        with client.pipeline(transaction=False) as pipe:
            for user in users:
                pipe.execute_command("ZINTERCARD", 2, f"interests:{users[0]}", f"interests:{user}")
            return " ".join(map(str, pipe.execute()))

    return answer


def serve(answer: Callable[[int], str], port: int) -> None:
    """GET /?n=NUMBER."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536

        def do_GET(self) -> None:
            number = parse_qs(urlsplit(self.path).query).get("n", ["0"])[0]
            body = answer(int(number)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def wsgi(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Waits 60 ms for something behind it, as most handlers do."""
    time.sleep(0.06)
    start_response("200 OK", [("Content-Length", "5")])
    return [b"fine\n"]


if __name__ == "__main__":
    kinds = {"postgresql": category_report, "redis": common_interests}
    serve(kinds[sys.argv[1]](sys.argv[2]), int(sys.argv[3]))
