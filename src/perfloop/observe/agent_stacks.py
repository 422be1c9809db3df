"""Stacks from inside a service, by its agent, for where no other process may read them: Yama, containers without SYS_PTRACE."""

from __future__ import annotations

from typing import Any

from perfloop.host.agent_link import AgentLink
from perfloop.model.evidence import Frame, Stack, StacksObservation

MORE_S = 10.0


class AgentSampler:
    """The agent of one process samples from ``begin`` to ``finish``. It runs beside the service's threads and takes about 0.1 ms of the interpreter a sample and ten threads."""

    def __init__(self, pid: int, rate_hz: float, window_max_s: float) -> None:
        self.pid, self._rate_hz, self._window_max_s = pid, rate_hz, window_max_s
        self._link = AgentLink(pid)

    def begin(self) -> None:
        """Start to sample."""
        self._link.ask(do="sample", hz=self._rate_hz, seconds=self._window_max_s)

    def finish(self) -> StacksObservation:
        """Stop, and what was seen; ``CannotMeasure`` where the agent gives no answer."""
        self._link.ask(do="stop")
        return stacks_of(self.pid, self._link.answer(MORE_S))

    def close(self) -> None:
        """Let go of the agent; it stops by itself."""
        self._link.close()


def stacks_of(pid: int, answer: dict[str, Any]) -> StacksObservation:
    """The agent's answer as an observation."""
    frames: dict[tuple[str, str, int], int] = {}
    stacks = [
        Stack(
            thread=str(thread),
            frames=tuple(frames.setdefault((function, file, line), len(frames)) for function, file, line in lines),
            total=total,
            active=min(active, total),
        )
        for thread, lines, total, active in answer.get("stacks", ())
    ]
    window_s = max(1e-3, float(answer.get("window_s", 0)))
    return StacksObservation(
        pid=pid,
        sampler="perfloop-agent",
        rate_hz=max(1e-3, answer.get("samples", 0) / window_s),
        window_s=window_s,
        frames=tuple(Frame(function=function, file=file, line=line) for function, file, line in frames),
        stacks=tuple(stacks),
    )
