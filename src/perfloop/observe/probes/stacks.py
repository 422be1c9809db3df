"""What the service's Python threads do: stacks sampled by py-spy, work and waiting told apart; nothing is changed in the service.

A thread that waits for the interpreter's lock (GIL) looks like one that waits for anything else; ``active`` means on a CPU or runnable.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from perfloop.errors import CannotMeasure
from perfloop.host import procfs
from perfloop.host.agent_link import has_agent
from perfloop.model.evidence import Frame, Stack, StacksObservation, Unavailable
from perfloop.model.target import Target
from perfloop.observe.agent_stacks import AgentSampler
from perfloop.observe.base import Access, Observation
from perfloop.observe.pyspy import STACKS_MAX, Ended, RawStack, Sampler, binary, read_stacks, why_not

ID = "stacks"
NEEDS = "py-spy, and ptrace of the service: the same user (with Yama ptrace_scope 0), root, or CAP_SYS_PTRACE; else a service started with perfloop run"
COST = "about 0.2 core beside the service at 100 samples a second and 30 threads; the service is never stopped"

ATTACH_MAX_S = 8.0
PIDS_MAX = 8
OTHER = "(other)"


class StacksSession:
    """Two samplers on each Python process: every thread, and only those at work."""

    interval_s = None

    def __init__(
        self, samplers: list[tuple[int, Sampler, Sampler]], missing: list[Unavailable], rate_hz: float, inside: list[AgentSampler] | None = None
    ) -> None:
        self._samplers, self._missing, self._rate_hz = samplers, missing, rate_hz
        self._inside = inside if inside is not None else []

    def begin(self) -> None:
        """Those outside sample already; those inside begin."""
        for sampler in self._inside:
            sampler.begin()

    def sample(self) -> None:
        """They sample by themselves."""

    def finish(self) -> Sequence[Observation]:
        """Stop all at once, then read what they wrote."""
        for _, everyone, at_work in self._samplers:
            everyone.interrupt()
            at_work.interrupt()
        found: list[Observation] = list(self._missing)
        found += [sampler.finish() for sampler in self._inside]
        for pid, everyone, at_work in self._samplers:
            total, active = everyone.result(), at_work.result()
            if total.ok and active.ok:
                found.append(merge(pid, total, active, self._rate_hz))
            else:
                failed = active if total.ok else total
                found.append(explain(pid, failed.message))
        return found

    def close(self) -> None:
        """End what still runs, remove the files."""
        for _, everyone, at_work in self._samplers:
            everyone.close()
            at_work.close()
        for sampler in self._inside:
            sampler.close()


def start(target: Target, access: Access) -> StacksSession | Unavailable:
    """Attach to every Python process of the service; returns when they are being sampled."""
    pids = [pid for pid in access.pids if is_python(pid, target)]
    if not pids:
        return Unavailable(
            probe=ID,
            reason="none of the service's processes is known to be Python" if access.pids else "no process of the service is known",
            fix="run perfloop on the service's machine, as its user or as root",
        )
    program = binary()
    inside: list[AgentSampler] = []
    if program is None:
        inside = [AgentSampler(pid, access.stacks_rate_hz, access.window_max_s) for pid in pids[:PIDS_MAX] if has_agent(pid)]
        if inside:
            return StacksSession([], [], access.stacks_rate_hz, inside)
        return Unavailable(probe=ID, reason="py-spy is not installed", fix="pip install py-spy")
    samplers: list[tuple[int, Sampler, Sampler]] = []
    missing: list[Unavailable] = [
        Unavailable(probe=ID, reason=f"{len(pids)} Python processes, of which {PIDS_MAX} are sampled", fix="look at fewer workers")
        for _ in range(len(pids) > PIDS_MAX)
    ]
    session = StacksSession(samplers, missing, access.stacks_rate_hz, inside)
    try:
        for pid in pids[:PIDS_MAX]:
            pair = [Sampler(program, pid, access.stacks_rate_hz, idle, access.window_max_s, access.scratch_dir) for idle in (True, False)]
            samplers.append((pid, pair[0], pair[1]))
        for pid, *both in list(samplers):
            if not all(sampler.wait_sampling(ATTACH_MAX_S) for sampler in both):
                if has_agent(pid):  # where ptrace is forbidden, it samples itself
                    inside.append(AgentSampler(pid, access.stacks_rate_hz, access.window_max_s))
                else:
                    missing.append(explain(pid, " ".join(sampler.said for sampler in both)))
                samplers[:] = [entry for entry in samplers if entry[0] != pid]
                for sampler in both:
                    sampler.close()
    except BaseException:
        session.close()
        raise
    return session


def is_python(pid: int, target: Target) -> bool:
    """True where the process runs the Python interpreter: as discovered, by its program's name, or by the library mapped into it."""
    if any(process.pid == pid and process.runtime == "python" for process in target.processes):
        return True
    if "python" in Path(procfs.link(pid, "exe")).name:
        return True
    return any(Path(name).name.startswith("libpython") for name in procfs.mapped_files(pid))


def merge(pid: int, total: Ended, active: Ended, rate_hz: float) -> StacksObservation:
    """One observation of both samplers. Its rate is the one that was reached: the main thread is in every sample of the first, so the thread with the most samples counts them."""
    everyone = _bounded(read_stacks(total.text))
    at_work = _bounded(read_stacks(active.text))
    by_thread: Counter[str] = Counter()
    for (thread, _), count in everyone.items():
        by_thread[thread] += count
    window_s = max(1e-3, total.window_s)
    reached_hz = max(by_thread.values(), default=0) / window_s
    scale = window_s / max(1e-3, active.window_s)
    names = _names(thread for thread, _ in (*everyone, *at_work))
    frames: dict[tuple[str, str, int], int] = {}
    stacks = []
    for key in dict.fromkeys((*everyone, *at_work)):
        seen, worked = float(everyone[key]), at_work[key] * scale
        stacks.append(
            Stack(
                thread=names[key[0]],
                frames=tuple(frames.setdefault(frame, len(frames)) for frame in key[1]),
                total=seen or worked,
                active=min(worked, seen) if seen else worked,
            )
        )
    return StacksObservation(
        pid=pid,
        sampler="py-spy",
        rate_hz=reached_hz if reached_hz >= 1 else rate_hz,
        window_s=window_s,
        frames=tuple(Frame(function=function, file=file, line=line) for function, file, line in frames),
        stacks=tuple(stacks),
        errors=total.errors + active.errors,
    )


def explain(pid: int, message: str) -> Unavailable:
    """Why this process cannot be sampled, and the command that changes it."""
    uid = -1
    try:
        uid = int(procfs.read_status(pid)["Uid"].split()[1])
        exists = procfs.read_stat(pid).state not in "ZX"
    except CannotMeasure:
        exists = False
    return why_not(pid, message, exists, os.geteuid() in (0, uid), _yama_scope(), _in_container())


def _bounded(stacks: Iterable[tuple[RawStack, int]]) -> Counter[RawStack]:
    """Samples by stack; what comes after ``STACKS_MAX`` distinct ones is counted under one frame a thread."""
    found: Counter[RawStack] = Counter()
    for key, count in stacks:
        found[key if key in found or len(found) < STACKS_MAX else (key[0], ((OTHER, "", 0),))] += count
    return found


def _names(threads: Iterable[str]) -> dict[str, str]:
    """Names to show: without the thread's id where the name is the only one of its kind."""
    unique = dict.fromkeys(threads)
    plain = {thread: thread.rpartition(" (")[0] or thread for thread in unique}
    counts = Counter(plain.values())
    return {thread: plain[thread] if counts[plain[thread]] == 1 else thread for thread in unique}


def _yama_scope() -> int:
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
    except (OSError, ValueError):
        return 0


def _in_container() -> bool:
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return True
    try:
        return any(word in Path("/proc/1/cgroup").read_text() for word in ("docker", "kubepods", "containerd", "lxc"))
    except OSError:
        return False
