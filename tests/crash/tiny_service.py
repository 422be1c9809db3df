"""A real HTTP service of one setting, and its restart command: ``tiny_service.py serve|restart|stop FOLDER``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


def serve(folder: Path) -> None:
    settings = tomllib.loads((folder / "app.toml").read_text())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = str(settings["pool"]["size"]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    HTTPServer(("127.0.0.1", settings["port"]), Handler).serve_forever()


def stop(folder: Path) -> None:
    pid_file = folder / "pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.02)


def start(folder: Path) -> None:
    process = subprocess.Popen([sys.executable, __file__, "serve", str(folder)], start_new_session=True, stdin=subprocess.DEVNULL)
    (folder / "pid").write_text(str(process.pid))


if __name__ == "__main__":
    where = Path(sys.argv[2])
    if sys.argv[1] == "serve":
        serve(where)
    else:
        stop(where)
        if sys.argv[1] == "restart":
            time.sleep(float((where / "slow").read_text()) if (where / "slow").exists() else 0)
            start(where)
