"""The agent's start, and its door: a local socket in the abstract namespace, named by process id, that answers this user and root only.

One line of JSON asks: ``{"do": "counts"}`` or ``{"do": "sample", "hz": 100, "seconds": 10}`` (which ends early when the asker sends another line); one line answers.
"""

from __future__ import annotations

import _socket
import json
import os
import struct
import sys
from _thread import start_new_thread

from perfloop_agent import VERSION, counts
from perfloop_agent.hooks import CALLS, install
from perfloop_agent.requests import REQUESTS
from perfloop_agent.stacks import sample

ASK_MAX = 4096
CLIENTS_MAX = 4
WAIT_S = 5.0
SAMPLE_HZ_MAX, SAMPLE_MAX_S = 250.0, 600.0

_clients = [0]
_listener: list = [None]


def start():
    """Count from now on, here and in forked children; called once, before the service's own code."""
    install({**CALLS, **REQUESTS})
    _listen()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked)


def _forked():
    try:
        counts.forget()
        _clients[0] = 0
        inherited, _listener[0] = _listener[0], None
        if inherited is not None:
            inherited.close()
        _listen()
    except Exception as error:
        counts.failed(error)


def _listen():
    """Wait for perfloop in a thread of our own; native socket and thread, so that an event loop's patches do not reach us."""
    if not sys.platform.startswith("linux"):
        return
    try:
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        listener.settimeout(None)
        listener.bind("\0perfloop-agent-%d" % os.getpid())
        listener.listen(CLIENTS_MAX)
    except OSError as error:
        counts.failed(error)
        return
    _listener[0] = listener
    start_new_thread(_serve, (listener,))


def _serve(listener):
    while True:
        try:
            fd, _ = listener._accept()
            client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        except OSError:
            return
        if _clients[0] >= CLIENTS_MAX:
            client.close()
            continue
        _clients[0] += 1
        start_new_thread(_talk, (client,))


def _talk(client):
    try:
        client.settimeout(WAIT_S)
        _, uid, _ = struct.unpack("3i", client.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12))
        if uid in (0, os.geteuid()):
            asked = json.loads(_line(client))
            client.sendall((json.dumps(_answer(asked, client)) + "\n").encode())
    except Exception as error:
        counts.failed(error)
    finally:
        _clients[0] -= 1
        client.close()


def _line(client):
    data = b""
    while b"\n" not in data:
        more = client.recv(ASK_MAX)
        if not more or len(data) > ASK_MAX:
            raise ValueError("no question")
        data += more
    return data


def _answer(asked, client):
    about = {"version": VERSION, "pid": os.getpid(), "now_ns": counts.now()}
    if asked.get("do") == "sample":
        hz = min(max(float(asked.get("hz", 100)), 1.0), SAMPLE_HZ_MAX)
        return {**about, **sample(hz, min(float(asked.get("seconds", 10)), SAMPLE_MAX_S), _spoke(client))}
    return {**about, **counts.snapshot()}


def _spoke(client):
    """A function that is true once the asker said something more, or went away."""

    def stopped():
        client.settimeout(0.0)
        try:
            client.recv(64)
        except BlockingIOError:
            return False
        except OSError:
            pass
        finally:
            client.settimeout(WAIT_S)
        return True

    return stopped
