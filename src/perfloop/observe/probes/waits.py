"""What the service's threads wait for and who is at the other end, for any language: their states and system calls, joined with the socket table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from perfloop.errors import CannotMeasure
from perfloop.host.processes import addresses_of
from perfloop.host.sockdiag import ESTABLISHED, LISTEN, SocketDiag
from perfloop.host.syscalls import readable, thread_states
from perfloop.model.evidence import Unavailable
from perfloop.model.signals import ThreadWait, WaitsObservation
from perfloop.model.target import Target
from perfloop.observe.base import Access, Observation

ID = "waits"
NEEDS = "Linux /proc and the right to trace the service's processes (same user, or root)"
COST = "about 3 % of a core for 50 threads at 10 looks a second; nothing in the service"

RATE_HZ = 10.0
PIDS_MAX = 8
_SYN_SENT, _CLOSE_WAIT = 2, 8

_Key = tuple[str, str, str, str]


class WaitsSession:
    """Samples every thread of every process; descriptors are named by the socket table, read again when an unknown socket appears."""

    interval_s = 1 / RATE_HZ

    def __init__(self, target: Target, pids: Sequence[int]) -> None:
        self._target, self._pids = target, tuple(pids)[:PIDS_MAX]
        self._diag = SocketDiag()
        self._kinds = {(address, peer.port): str(peer.kind) for peer in target.peers for address in (peer.host, *addresses_of(peer.host))}
        self._sockets: dict[str, tuple[str, str]] = {}
        self._counts: dict[int, Counter[_Key]] = {pid: Counter() for pid in self._pids}
        self._samples = 0
        self._began_s = time.monotonic()

    def begin(self) -> None:
        """The window starts."""
        self._began_s = time.monotonic()
        self._read_sockets()

    def sample(self) -> None:
        """Look at every thread once."""
        self._samples += 1
        states = {pid: thread_states(pid) for pid in self._pids}
        seen = {thread.target for threads in states.values() for thread in threads if thread.target.startswith("socket:")}
        if seen - self._sockets.keys():
            self._read_sockets()
            self._sockets |= dict.fromkeys(seen - self._sockets.keys(), ("", "socket"))  # Unix sockets, or closed since
        for pid, threads in states.items():
            for thread in threads:
                peer, kind = self._named(thread.target)
                self._counts[pid][thread.state, thread.syscall, peer, kind] += 1

    def finish(self) -> Sequence[Observation]:
        """The sums by state, call and peer."""
        window_s = time.monotonic() - self._began_s
        return tuple(
            WaitsObservation(
                window_s=window_s,
                pid=pid,
                samples=self._samples,
                threads=tuple(
                    ThreadWait(state=state, syscall=syscall, peer=peer, kind=kind, samples=count)
                    for (state, syscall, peer, kind), count in counts.most_common(200)
                ),
            )
            for pid, counts in self._counts.items()
            if counts
        )

    def close(self) -> None:
        """Close the netlink socket."""
        self._diag.close()

    def _named(self, target: str) -> tuple[str, str]:
        if target.startswith("socket:"):
            return self._sockets.get(target, ("", "socket"))
        if target.startswith("/"):
            return target, "file"
        return "", target.partition(":")[0]

    def _read_sockets(self) -> None:
        try:
            table = self._diag.tcp((ESTABLISHED, LISTEN, _SYN_SENT, _CLOSE_WAIT))
        except CannotMeasure:
            return
        listening = {entry.local_port for entry in table if entry.state == LISTEN} | {self._target.port}
        self._sockets = {}
        for entry in table:
            name = f"socket:[{entry.inode}]"
            peer = f"{entry.remote_host}:{entry.remote_port}"
            if entry.state == LISTEN:
                self._sockets[name] = ("listen", "client")
            elif entry.local_port in listening and (entry.remote_host, entry.remote_port) not in self._kinds:
                self._sockets[name] = ("", "client")  # one whom the service serves
            else:
                self._sockets[name] = (peer, self._kinds.get((entry.remote_host, entry.remote_port), "unknown"))


def start(target: Target, access: Access) -> WaitsSession | Unavailable:
    """A session over the service's processes."""
    if not access.pids:
        return Unavailable(probe=ID, reason="no process of the service is known", fix="run perfloop on the service's machine, as its user or as root")
    if not any(readable(pid) for pid in access.pids):
        return Unavailable(
            probe=ID, reason="the kernel does not tell the system calls of the service's threads", fix="run perfloop as the service's user, or as root"
        )
    return WaitsSession(target, access.pids)
