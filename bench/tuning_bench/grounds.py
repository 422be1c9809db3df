"""The servers: Debian's programs with Debian's settings (only paths and ports are the bench's own), with data and a service in front, on the first core."""

from __future__ import annotations

import gzip
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.server import free_port, program, started

ROOT = Path(__file__).parents[2]
APP = Path(__file__).with_name("app.py")
CORE = ["taskset", "-c", "0"]
TABLES = """
CREATE TABLE categories AS SELECT i AS id, CASE WHEN i > 1 THEN (i + 8) / 10 END AS parent_id, 'category ' || i AS name FROM generate_series(1, 2000) i;
ALTER TABLE categories ADD PRIMARY KEY (id);
CREATE INDEX ON categories (parent_id);
CREATE TABLE products AS SELECT i AS id, 1 + (i::bigint * 7919 % 2000)::int AS category_id, (i::bigint * 7919 % 100000) / 100.0 AS price, md5(i::text) AS name FROM generate_series(1, 200000) i;
ALTER TABLE products ADD PRIMARY KEY (id);
CREATE INDEX ON products (category_id);
"""


@dataclass
class Ground:
    """Where the service listens, at which rate it is loaded, by which paths; ``extra`` are more lines of [target]."""

    url: str
    rate_per_s: float
    paths: tuple[str, ...]
    extra: str = ""
    settle_s: float = 0.3
    env: dict[str, str] = field(default_factory=dict)


@contextmanager
def postgresql(folder: Path) -> Iterator[Ground]:
    """A report over a tree of categories, 200,000 products; initdb's settings, as Debian's pg_createcluster makes them."""
    import psycopg

    home, programs, port, front = Path(tempfile.mkdtemp(prefix="pl-tune-")), sorted(Path("/usr/lib/postgresql").iterdir())[-1] / "bin", free_port(), free_port()
    shutil.chown(home, "postgres")
    try:
        subprocess.run([programs / "initdb", "-D", home / "data", "-A", "trust"], user="postgres", cwd=home, check=True, stdout=subprocess.DEVNULL)
        argv = [*CORE, str(programs / "postgres"), "-D", str(home / "data"), "-p", str(port), "-k", str(home), "-h", "127.0.0.1"]
        with started("postgres", argv, port, home, user="postgres"):
            dsn = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(TABLES)
                connection.execute("VACUUM ANALYZE")
            with started("app", [*CORE, sys.executable, str(APP), "postgresql", dsn, str(front)], front, folder):
                extra = 'postgres_admin = "env:BENCH_PG"'
                yield Ground(f"http://127.0.0.1:{front}", 9, tuple(f"/?n={n}" for n in range(0, 80, 3)), extra, env={"BENCH_PG": dsn})
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def redis(folder: Path) -> Iterator[Ground]:
    """Interests in common of 60 users at a time; /etc/redis/redis.conf as Debian ships it."""
    port, front = free_port(), free_port()
    own = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--daemonize", "no", "--logfile", "", "--pidfile", str(folder / "redis.pid")]
    argv = [*CORE, program("redis-server"), "/etc/redis/redis.conf", *own, "--supervised", "no"]
    with (
        started("redis", argv, port, folder),
        started("app", [*CORE, sys.executable, str(APP), "redis", str(port), str(front)], front, folder),
    ):
        extra = 'redis_admin = "env:BENCH_REDIS"'
        url = f"redis://127.0.0.1:{port}/0"
        yield Ground(f"http://127.0.0.1:{front}", 40, tuple(f"/?n={n}" for n in range(0, 60, 2)), extra, 2.2, {"BENCH_REDIS": url})


@contextmanager
def nginx(folder: Path) -> Iterator[Ground]:
    """Pages of 300 kB for browsers that accept gzip, whose build made .gz files beside them; /etc/nginx/nginx.conf as Debian ships it."""
    port = free_port()
    text = Path("/etc/nginx/nginx.conf").read_text()
    for old, new in (
        ("/run/nginx.pid", f"{folder}/nginx.pid"),
        ("/var/log/nginx/error.log", f"{folder}/error.log"),
        ("/var/log/nginx/access.log", f"{folder}/access.log"),
        ("/etc/nginx/conf.d/*.conf", f"{folder}/site.conf"),
        ("/etc/nginx/sites-enabled/*", f"{folder}/none*.conf"),
        ("/etc/nginx/modules-enabled/*.conf", f"{folder}/none*.conf"),
    ):
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    (folder / "site.conf").write_text(f"server {{\n    listen 127.0.0.1:{port};\n    root {folder}/www;\n}}\n")
    folder.chmod(0o755)
    (folder / "www").mkdir()
    lot = random.Random(5)
    words = ["".join(lot.choices("abcdefghijklmnopqrstuvwxyz", k=lot.randint(2, 10))) for _ in range(3000)]
    for number in range(8):
        page = ("<html><body>" + "".join(f"<p class='item'>{' '.join(lot.choices(words, k=12))}</p>\n" for _ in range(3000)) + "</body></html>").encode()
        (folder / "www" / f"{number}.html").write_bytes(page)
        (folder / "www" / f"{number}.html.gz").write_bytes(gzip.compress(page, 9))
    argv = [*CORE, program("nginx"), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    with started("nginx", argv, port, folder):
        yield Ground(f"http://127.0.0.1:{port}", 60, tuple(f"/{number}.html" for number in range(8)), 'headers = {"Accept-Encoding" = "gzip"}')


@contextmanager
def gunicorn(folder: Path) -> Iterator[Ground]:
    """A handler that waits 60 ms; gunicorn as it starts without any option: one synchronous worker."""
    place = ROOT / ".bench" / "gunicorn"
    if not (place / "bin" / "gunicorn").exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([place / "bin" / "pip", "install", "--quiet", "gunicorn==23.0.0"], check=True)
    port = free_port()
    argv = [*CORE, str(place / "bin" / "gunicorn"), "-b", f"127.0.0.1:{port}", "--chdir", str(APP.parent), "app:wsgi"]
    with started("gunicorn", argv, port, folder):
        yield Ground(f"http://127.0.0.1:{port}", 12, ("/",))


GROUNDS: dict[str, Callable[[Path], AbstractContextManager[Ground]]] = {"postgresql": postgresql, "redis": redis, "nginx": nginx, "gunicorn": gunicorn}
