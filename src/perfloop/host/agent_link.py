"""Talks to the in-process agent of a service that was started by ``perfloop run``: one question and one answer over its local socket."""

from __future__ import annotations

import json
import os
import socket
import struct
from types import TracebackType
from typing import Any

from perfloop.errors import CannotMeasure

ANSWER_MAX_BYTES = 64 * 2**20
WAIT_S = 5.0


class AgentLink:
    """A connection to the agent of one process; ``CannotMeasure`` where there is none, or where somebody else sits at its address."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(WAIT_S)
            self._socket.connect(f"\0perfloop-agent-{pid}")
            owner, uid, _ = struct.unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError as error:
            self.close()
            raise CannotMeasure(
                f"there is no agent in process {pid}", why=error.strerror or str(error), fix="start the service with: perfloop run -- COMMAND"
            ) from None
        if owner != pid and uid not in (0, os.geteuid()):  # a forked worker's address is bound by itself; a stranger's is not
            self.close()
            raise CannotMeasure(f"the agent's address of process {pid} belongs to another user", why=f"process {owner} of user {uid}", fix="end that process")

    def ask(self, **question: Any) -> None:
        """Send one question."""
        try:
            self._socket.sendall((json.dumps(question) + "\n").encode())
        except OSError as error:
            raise CannotMeasure(f"the agent of process {self.pid} does not listen", why=str(error)) from None

    def answer(self, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """Its answer; ``CannotMeasure`` where it takes longer, or is none."""
        self._socket.settimeout(timeout_s)
        data = bytearray()
        try:
            while not data.endswith(b"\n"):
                more = self._socket.recv(1 << 16)
                if not more or len(data) > ANSWER_MAX_BYTES:
                    raise CannotMeasure(f"the agent of process {self.pid} gave no answer", why="it hung up" if not more else "too long")
                data += more
            answer = json.loads(data)
        except (OSError, ValueError) as error:
            raise CannotMeasure(f"the agent of process {self.pid} gave no answer", why=str(error)) from None
        return answer if isinstance(answer, dict) else {}

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> AgentLink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def agent_counts(pid: int) -> dict[str, Any]:
    """All counts of the agent in a process since its start."""
    with AgentLink(pid) as link:
        link.ask(do="counts")
        return link.answer()


def has_agent(pid: int) -> bool:
    """True where an agent answers in that process."""
    try:
        AgentLink(pid).close()
    except CannotMeasure:
        return False
    return True
