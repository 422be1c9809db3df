"""A small real service for tests: a threading HTTP server with ways to misbehave. ``python tiny_service.py PORT MODE``."""

import ctypes
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mode = "ok"
    served = 0

    def do_GET(self):
        type(self).served += 1
        if self.mode == "dies" and self.served > 60:
            os._exit(3)
        if self.mode == "redirects":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.mode == "fails" and self.path != "/health":
            self.answer(500, b"broken")
            return
        time.sleep(0.002)
        self.answer(200, b'{"ok": true}')

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def raw(port, answer):
    """Accepts, and answers every connection with these bytes (None: with nothing, for ever)."""
    server = socket.create_server(("127.0.0.1", port))
    held = []
    while True:
        connection, _ = server.accept()
        held.append(connection)
        if answer is not None:
            threading.Thread(target=lambda c=connection: (c.recv(65536), c.sendall(answer), c.close()), daemon=True).start()


def main():
    port, mode = int(sys.argv[1]), sys.argv[2]
    if mode == "hangs":
        raw(port, None)
    if mode == "garbage":
        raw(port, bytes(range(256)) * 20)
    if mode == "undumpable":  # what a hardened service does: nobody without CAP_SYS_PTRACE may look into it
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    Handler.mode = mode
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
