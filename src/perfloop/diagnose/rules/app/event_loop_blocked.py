"""A coroutine waits without awaiting, and the whole event loop waits with it.

What it finds
    Calls that block (a synchronous HTTP client, database driver, lock, pause or file) inside ``async def`` code, on the thread that runs the event loop.

Why it costs you
    While one request blocks the loop, no other request of the process moves, not even the cheapest: latency of everything is the block's length and more.

How it decides
    The loop's thread is seen waiting inside the application's own frames (an idle loop waits in its selector, with none) for at least ``share_min`` of the
    window; or for ``share_low`` where one request alone blocks it for ``request_min_s``. Computing on the loop is a CPU finding, not this one.

What would disprove it
    A cheap request sent beside the suspect is as fast as without it.

How to fix
    Use the asynchronous client, or run the call in a thread (``asyncio.to_thread``, ``run_in_threadpool``), or make the handler a plain ``def`` where the
    framework runs those in threads.

Sources
    Python documentation, "Developing with asyncio: Running Blocking Code"; FastAPI documentation, "Concurrency and async / await".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from perfloop.diagnose.finish import at, conclude, gain, ms, percent, place_of, share_of
from perfloop.diagnose.frames import Doing, library_path
from perfloop.diagnose.reading import Reading, Sample, by_place
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Experiment, Finding, Proposal, RuleResult

ID = "event-loop-blocked"
NEEDS = ("stacks", "window")
THRESHOLDS = {"share_min": 0.06, "share_low": 0.03, "request_min_s": 0.05, "cores_max": 0.8}


_BLOCKING = re.compile(r"^/(socket|ssl|threading|queue|subprocess|_queue)\.py$|^/http/client\.py|^/urllib3/|^/requests/")


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge what the loop's thread waited for under load, inside the application's frames."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    busy = (reading.cores_used or 0.0) > limit["cores_max"]
    blocked = [sample for sample in reading.loaded if _blocks(reading, sample, busy)]
    share = sum(sample.wait for sample in blocked) / max(1, _loops(evidence, reading))
    alone = {name: sum(sample.wait for sample in step.samples if _blocks(reading, sample, busy)) for name, step in reading.steps.items()}
    longest = max(alone.values(), default=0.0)
    found: list[Finding] = []
    if blocked and (share >= limit["share_min"] or (share >= limit["share_low"] and longest >= limit["request_min_s"])):
        found.append(_finding(reading, blocked, share, alone, evidence))
    return conclude(ID, evidence, found, f"the event loop waited inside application code for {percent(share)} of the window")


def _blocks(reading: Reading, sample: Sample, busy: bool) -> bool:
    if not sample.on_loop or sample.place is None or sample.wait <= 0:
        return False
    if "await " in reading.code.text(sample.place) and not (sample.beneath and _BLOCKING.search(library_path(sample.beneath[-1].file))):
        return False  # a coroutine that waits is on no stack: one that is there runs, and waited for a core or the interpreter's lock
    # without a known call it may have waited for the interpreter's lock, which is likely only where the CPU is used up
    return sample.waits_for is not Doing.OTHER or not busy


def _loops(evidence: Evidence, reading: Reading) -> int:
    return sum(1 for stacks in evidence.stacks if stacks.stacks) if len(evidence.stacks) > 1 and reading.loaded else 1


def _finding(reading: Reading, blocked: Sequence[Sample], share: float, alone: Mapping[str, float], evidence: Evidence) -> Finding:
    root = reading.source_root
    lines = by_place(blocked, lambda sample: sample.wait)
    place, held = lines[0]
    here = [sample for sample in blocked if sample.place == place]
    steps = [name for name, part in reading.steps_of(here).items() if part >= 0.1 * held]
    others = [step for step in reading.steps.values() if step.name not in steps]
    excess = sum(step.rate_per_s * max(0.0, (step.loaded_s or 0.0) - (step.solo_s or 0.0)) for step in reading.steps.values() if step.loaded_s and step.solo_s)
    call = _call(here)
    worst = steps[0] if steps else ""
    window_s = evidence.stacks[0].window_s
    facts = [
        f"the event loop waits inside application code for {percent(share)} of the window ({window_s:.0f} s, {sum(sample.count for sample in blocked):.0f} samples)",
        f"{percent(held / max(sum(sample.wait for sample in blocked), 1e-9))} of that at {at(place, root)} in {place.function}()"
        + (f", waiting in {call}" if call else "")
        + f" ({here[0].waits_for.value})",
    ]
    if alone.get(worst):
        facts.append(f"one request of {worst} blocks it for {ms(alone[worst])}, alone")
    slowed = sorted((step for step in others if step.loaded_s and step.solo_s), key=lambda step: -(step.loaded_s or 0.0))[:1]
    facts += [f"{step.name} takes {ms(step.loaded_s or 0.0)} under load and {ms(step.solo_s or 0.0)} alone" for step in slowed]
    won = held + excess
    rate = reading.rate_per_s
    estimate = share_of(share, 1.0, window_s * evidence.stacks[0].rate_hz, "stacks under load")
    text = reading.code.text(place)
    advice = f"await an asynchronous client here, or run the call in a thread: await asyncio.to_thread(…){f'; now: {text}' if text else ''}"
    experiment = Experiment(
        kind="noop-beside",
        params={"subject": f"{place.file}:{place.function}", "step": worst},
        refutes="if a cheap request beside this one is as fast as without it, this is not it",
    )
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY,
        title=f"{place.function}() blocks the event loop for {percent(share)} of the time",
        place=place_of(place),
        steps=(*steps, *(step.name for step in others)),
        share=estimate,
        win_back_s=gain(won, rate, estimate, "stacks and latencies under load"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis="a call that waits is made on the event loop, so all other requests wait with it",
        disproof="a cheap request sent beside this one is not slowed down",
        experiment=experiment if worst and len(reading.steps) > 1 else None,
        fix=f"{at(place, root)}: {advice}",
        prevention="asyncio debug mode (slow_callback_duration) in tests; no synchronous clients in async code",
        proposals=(
            Proposal(
                kind="code", title="do not block the event loop", params={"file": place.file, "line": place.line, "function": place.function, "advice": advice}
            ),
        ),
    )


def _call(samples: Sequence[Sample]) -> str:
    """The library call right under the application's line."""
    for sample in sorted(samples, key=lambda sample: -sample.wait):
        if sample.beneath:
            frame = sample.beneath[0]
            return f"{frame.file.rsplit('/', 2)[-2]}.{frame.function}()"
    return ""
