"""nginx with a configuration of the test's own."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.server import Server, free_port, program, started

DEFAULT = 'location / { return 200 "hello\\n"; }'


@contextmanager
def nginx(folder: Path, server: str = DEFAULT, http: str = "", workers: int = 1, listen: str = "") -> Iterator[Server]:
    """Runs nginx in the foreground; ``server`` is the inside of the server block, ``http`` goes before it, ``listen`` has further words of its listen line (``ssl http2``). Access log: ``folder/access.log`` (combined)."""
    port = free_port()
    places = "\n".join(f"{kind}_temp_path {folder}/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    configuration = folder / "nginx.conf"
    configuration.write_text(f"""
user {getpass.getuser()};
worker_processes {workers};
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
{places}
access_log {folder}/access.log combined;
keepalive_requests 100000000;
{http}
server {{
listen 127.0.0.1:{port} backlog=4096 {listen};
{server}
}}
}}
""")
    with started("nginx", [program("nginx"), "-e", str(folder / "error.log"), "-c", str(configuration)], port, folder) as made:
        yield made
