"""Calls that do not need one another are made one after another.

What it finds
    Functions that wait for several calls in turn, although no call uses what another returned.

Why it costs you
    The request takes the sum of the calls, where it could take the longest of them.

How it decides
    Sent alone, the endpoint waits at two or more lines of one function for other services or the database, each line for at least ``each_min_s``; by the
    source, none of these statements uses a name that another assigned, and none is in a loop. For coroutines, whose waits are on no stack: the function awaits
    at two or more such lines, and the kernel counts as many calls. What would be won, the sum without the longest, is at least ``share_min`` of the endpoint's time and
    ``request_min_s``.

What would disprove it
    The calls depend on one another in a way that the source does not show (an order that the peer needs), or they already overlap.

How to fix
    ``asyncio.gather`` or a ``TaskGroup``; a thread pool for blocking clients; or one call that returns all.

Sources
    Sentry, "Consecutive HTTP" and "Consecutive DB queries" (behaviour); Smith & Williams, "Unbalanced Processing".
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from perfloop.diagnose.calls import awaited_lines, calls_of, independent
from perfloop.diagnose.code import Function
from perfloop.diagnose.finish import at, code_change, conclude, gain, ms, percent, place_of, share_of, where
from perfloop.diagnose.frames import Doing
from perfloop.diagnose.reading import DATABASE_PEERS, HTTP_PEERS, Reading, StepView
from perfloop.diagnose.repeats import delay_slope
from perfloop.model.evidence import Evidence, Frame
from perfloop.model.finding import Confidence, Experiment, Finding, RuleResult

ID = "sequential-calls"
NEEDS = ("solo", "source")
THRESHOLDS = {"share_min": 0.2, "request_min_s": 0.01, "each_min_s": 0.004}

_AWAY = (Doing.HTTP, Doing.DATABASE)
_Lines = tuple[Function, list[tuple[int, float]]]  # (line, seconds waited there)


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every function in which an endpoint waits, alone."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    for step in reading.steps.values():
        seen = _by_stacks(reading, step, limit) or _by_source(reading, step, limit)
        if seen is None or not step.solo_s:
            continue
        times = [value for _, value in seen[1]]
        saved = sum(times) - max(times)
        if saved >= max(limit["share_min"] * step.solo_s, limit["request_min_s"]):
            found.append(_finding(reading, step, seen, saved))
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found, "no endpoint waits long for calls one after another that do not need one another")


def _by_stacks(reading: Reading, step: StepView, limit: Mapping[str, float]) -> _Lines | None:
    waits: dict[tuple[str, int], dict[int, float]] = {}
    functions: dict[tuple[str, int], Function] = {}
    for sample in step.samples:
        if sample.waits_for not in _AWAY or sample.wait <= 0:
            continue
        for frame in sample.app:
            function = reading.code.function(frame.file, frame.line)
            if function is not None:
                key = (function.file, function.shift)
                functions[key] = function
                waits.setdefault(key, {})[frame.line] = waits.get(key, {}).get(frame.line, 0.0) + sample.wait
    best: _Lines | None = None
    for key, lines in waits.items():
        long = {line: value for line, value in lines.items() if value >= limit["each_min_s"]}
        alone = independent(functions[key], long)
        if len(alone) >= 2 and (best is None or sum(long[line] for line in alone) > sum(value for _, value in best[1])):
            best = functions[key], [(line, long[line]) for line in alone]
    return best


def _by_source(reading: Reading, step: StepView, limit: Mapping[str, float]) -> _Lines | None:
    """For coroutines: awaits that do not need one another, in a function on the stacks of calls, as many as the kernel counted or fewer."""
    for kind, peers in ((Doing.HTTP, HTTP_PEERS), (Doing.DATABASE, DATABASE_PEERS)):
        calls, waited = step.trips(peers), step.waited(peers)
        if calls < 1.8 or waited < 2 * limit["each_min_s"]:
            continue
        seen = {(frame.file, frame.line) for sample in calls_of(reading, step, kind) if sample.on_loop for frame in sample.app}
        for file, line in sorted(seen):
            function = reading.code.function(file, line)
            if function is None or not function.is_async or line not in awaited_lines(function):
                continue
            alone = [one for one in independent(function, awaited_lines(function)) if _same_call(function, one, line)]
            if 2 <= len(alone) <= calls + 0.5:
                return function, [(one, waited / calls) for one in alone]
    return None


def _same_call(function: Function, line: int, other: int) -> bool:
    """True where the awaits at both lines call the same function, so that what is known of one holds for the other."""
    names = []
    for wanted in (line, other):
        found = {
            ast.unparse(node.value.func)
            for node in ast.walk(function.node)
            if isinstance(node, ast.Await) and isinstance(node.value, ast.Call) and function.line(node) == wanted
        }
        names.append(found)
    return bool(names[0] & names[1])


def _finding(reading: Reading, step: StepView, seen: _Lines, saved: float) -> Finding:
    function, lines = seen
    root = reading.source_root
    place = Frame(function=function.node.name, file=function.file, line=lines[0][0])
    share = share_of(saved, step.solo_s or 0.0, sum(sample.count for sample in step.samples) or step.requests, "this endpoint alone")
    how = "asyncio.gather() or a TaskGroup" if function.is_async else "a thread pool (concurrent.futures) or an asynchronous client"
    advice = f"make these calls at the same time: {how}"
    facts = [f"{at(Frame(function='', file=function.file, line=line), root)} waits {ms(value)} per request of {step.name}, alone" for line, value in lines]
    facts.append(
        f"none uses what another returned; together they take {ms(sum(value for _, value in lines))} of {ms(step.solo_s or 0.0)}, the longest {ms(max(value for _, value in lines))}"
    )
    won = saved * step.rate_per_s
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY,
        title=f"{function.node.name}() makes {len(lines)} calls one after another that do not need one another, {percent(saved / (step.solo_s or saved))} of {step.name}",
        place=place_of(place),
        steps=(step.name,),
        share=share,
        win_back_s=gain(won, step.rate_per_s, share, "this endpoint alone"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis="the request takes the sum of calls of which it only needs the longest",
        disproof="the calls need one another's effects, or they overlap already",
        experiment=_experiment(step, len(lines)),
        fix=where(place, root) + advice,
        prevention="a trace of each new endpoint: staircases of calls are visible at once",
        proposals=code_change("make the calls at the same time", place, advice),
    )


def _experiment(step: StepView, calls: int) -> Experiment:
    peers = HTTP_PEERS if step.trips(HTTP_PEERS) >= step.trips(DATABASE_PEERS) else DATABASE_PEERS
    kind = "http" if peers is HTTP_PEERS else max(DATABASE_PEERS, key=lambda name: step.round_trips.get(name, 0.0))
    return delay_slope(step, peers, kind, float(calls), "if latency grows by one call only when each takes longer, they overlap already")
