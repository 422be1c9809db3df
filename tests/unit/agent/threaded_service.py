"""A service on the standard library's server, with threads: /KIND?n=N makes N calls of that kind from one line."""

import os
import sqlite3
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import psycopg
import redis
import requests
from sqlalchemy import create_engine, text

PORT = int(sys.argv[1])
OTHER = f"http://127.0.0.1:{PORT}/leaf"
store = redis.Redis(port=int(os.environ["REDIS_PORT"]))
engine = create_engine("sqlite://")
session = requests.Session()
session.trust_env = False
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def with_sqlite(n):
    connection = sqlite3.connect(":memory:")
    for i in range(n):
        connection.execute(f"SELECT {i}, 'name {i}'").fetchall()  # line: sqlite


def with_sqlalchemy(n):
    with engine.connect() as connection:
        for i in range(n):
            connection.execute(text("SELECT :i"), {"i": i})  # line: sqlalchemy


def with_psycopg(n):
    with psycopg.connect(os.environ["DSN"], autocommit=True) as connection:
        for i in range(n):
            one(connection, i)  # line: psycopg


def one(connection, i):
    return connection.execute("SELECT %s::int", (i,)).fetchone()


def with_redis(n):
    for i in range(n):
        store.get(f"user:{i}")  # line: redis
    with store.pipeline() as pipeline:
        pipeline.get("a").get("b").execute()


def with_urllib(n):
    for i in range(n):
        opener.open(f"{OTHER}/{i}?token=geheim").read()  # line: urllib


def with_requests(n):
    for i in range(n):
        session.get(f"{OTHER}/{i}").raise_for_status()  # line: requests


def with_error(n):
    for _ in range(n):
        try:
            sqlite3.connect(":memory:").execute("SELECT nothing FROM nowhere")
        except sqlite3.OperationalError:
            pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = urlsplit(self.path)
        call = globals().get("with_" + asked.path.strip("/"))
        if call:
            call(int(parse_qs(asked.query)["n"][0]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
