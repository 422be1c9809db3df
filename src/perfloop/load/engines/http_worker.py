"""The HTTP load engine's own process: one workload as a line of JSON on stdin, results as lines of JSON on stdout.

Lines out: ``ready`` (where asked to wait for ``go``), ``started``, one ``second`` each second (or ``slot_s``), then ``end``; or ``failed`` with what, why and
fix; for a hook only ``hook``. When stdin closes, the parent is gone and so is this process, whatever it was doing. SIGTERM ends the load and
keeps what was measured. It is started by ``perfloop.load.engines.http``, not by hand.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any

import uvloop

from perfloop.errors import PerfloopError
from perfloop.load.engines.asking import Program
from perfloop.load.engines.building import build, build_world
from perfloop.load.engines.pool import OursError
from perfloop.load.engines.recorder import Recorder
from perfloop.load.engines.room import make_room
from perfloop.load.engines.scripts import hook, load_script
from perfloop.load.engines.sending import Sending
from perfloop.load.engines.users import User

WORKLOAD_MAX_BYTES = 512 * 2**20
TICK_S = 0.02
LEAD_S = 0.05  # between the last preparation and the first possible arrival
GRACE_S = 5.0  # after the last timeout, before we stop waiting for our own bookkeeping
HOOK_MAX_S = 300.0
STOPPED = "ended by perfloop stop"


class Output:
    """Lines to a parent that may be busy: what the pipe does not take now is kept, and the load is never held up by it."""

    def __init__(self) -> None:
        self._left = bytearray()
        os.set_blocking(1, False)

    def line(self, message: dict[str, Any]) -> None:
        """One message."""
        self._left += json.dumps(message, separators=(",", ":")).encode() + b"\n"
        self.push()

    def push(self) -> None:
        """Writes what the pipe takes."""
        with suppress(BlockingIOError):
            while self._left:
                del self._left[: os.write(1, self._left)]

    def finish(self) -> None:
        """Writes all that is left, however long the parent takes; ends when it is gone (``BrokenPipeError``)."""
        os.set_blocking(1, True)
        self.push()


def main() -> int:
    """Reads the workload, sends the load, writes what came back; 0 when it ran, 3 when it could not."""
    output = Output()
    try:
        plan = json.loads(sys.stdin.buffer.readline(WORKLOAD_MAX_BYTES))
        make_room(plan)
        uvloop.run(_hook(plan, output) if plan.get("hook") else _window(plan, output))
    except PerfloopError as error:
        output.line({"type": "failed", "what": error.what, "why": error.why, "fix": error.fix})
    except OursError as error:
        output.line({"type": "failed", "what": "the load generator cannot go on", "why": str(error), "fix": error.fix})
    except MemoryError:
        output.line({"type": "failed", "what": "the load generator cannot go on", "why": "the machine is out of memory", "fix": "lower the users or the rate"})
    else:
        output.finish()
        return 0
    output.finish()
    return 3


async def _window(plan: dict[str, Any], output: Output) -> None:
    recorder = Recorder(plan["duration_s"])
    sending, source = build(plan, recorder)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    starts_at_s = _agreed_start(plan, output)
    loop = asyncio.get_running_loop()
    loop.add_reader(0, _parent_gone)
    loop.add_signal_handler(signal.SIGTERM, lambda: sending.stop(time.monotonic(), STOPPED))
    start_s = time.monotonic() + (starts_at_s - time.time())
    output.line({"type": "started", "at": starts_at_s})
    worked_s, began_s = time.process_time(), time.monotonic()
    sending.begin(source, start_s, start_s + plan["duration_s"])
    try:
        await _run(sending, recorder, output, plan["timeout_s"], plan["slot_s"])
    finally:
        sending.close()
    output.line(recorder.second(time.monotonic() - start_s, source.users))
    duration_s = max(0.0, sending.ended_at_s - start_s)
    output.line(recorder.end(duration_s, sending.stopped_early, (time.process_time() - worked_s) / max(1e-9, time.monotonic() - began_s)))


def _agreed_start(plan: dict[str, Any], output: Output) -> float:
    """Seconds since the epoch: what the plan says, what the parent says when all of its workers are ready, or very soon."""
    if plan["start_at_s"]:
        return float(plan["start_at_s"])
    if plan.get("wait_for_go"):
        output.line({"type": "ready"})
        output.finish()
        said = sys.stdin.buffer.readline()
        os.set_blocking(1, False)
        return float(said or 0) or time.time() + LEAD_S
    return time.time() + LEAD_S


async def _run(sending: Sending, recorder: Recorder, output: Output, timeout_s: float, slot_s: float) -> None:
    next_line_s = sending.start_s + slot_s
    while not sending.finished:
        await asyncio.sleep(TICK_S)
        now_s = time.monotonic()
        sending.tick(now_s)
        if sending.broken:
            raise sending.broken
        if now_s >= next_line_s:
            output.line(recorder.second(now_s - sending.start_s, sending.source.users))
            next_line_s = max(next_line_s + slot_s, now_s)
        output.push()
        if not sending.on and now_s > sending.ended_at_s + timeout_s + GRACE_S:
            raise OursError("requests did not end in time", "lower the rate: this machine cannot keep up with it")


async def _hook(plan: dict[str, Any], output: Output) -> None:
    """Runs ``setup`` or ``teardown`` of a file of journeys, as one user; nothing of it is counted."""
    recorder = Recorder(HOOK_MAX_S)
    world, _ = build_world(plan, recorder)
    asyncio.get_running_loop().add_reader(0, _parent_gone)
    function = hook(load_script(plan["script"]), plan["hook"])
    told: dict[str, Any] = {"type": "hook", "data": ""}
    if function is not None:
        done = asyncio.get_running_loop().create_future()

        async def once(user: User) -> None:
            value = await function(user)
            told["data"] = "" if value is None else json.dumps(value)

        program = Program(plan["hook"], once, recorder.journey(plan["hook"]))
        world.programs = (program,)
        world.next = lambda user, now_s: done.set_result(user.error)  # type: ignore[method-assign]
        user = world.user_type(world, 0)
        user.begin(time.monotonic(), program)
        try:
            async with asyncio.timeout(HOOK_MAX_S):
                await _until(done, world.sending, user)
        except TimeoutError:
            raise OursError(f"{plan['hook']} took longer than {HOOK_MAX_S:.0f} s", "make it do less") from None
        finally:
            user.stop()
            world.sending.close()
        if errors := dict(recorder.journey(plan["hook"]).errors):
            raise OursError(f"{plan['hook']} of the journeys failed: {recorder.first_errors or errors}", "correct it")
    output.line(told)


async def _until(done: asyncio.Future[Any], sending: Sending, user: User) -> None:
    while not done.done():
        await asyncio.wait((done,), timeout=TICK_S)
        sending.expire((user,), time.monotonic())


def _parent_gone() -> None:
    if not os.read(0, 4096):
        os._exit(130)  # nobody is left to hear anything, and no request more may go out


if __name__ == "__main__":
    sys.exit(main())
