"""The work of a function grows faster than its input.

What it finds
    A function that computes for most of a request and whose cost rises more than in proportion to the size that is asked for, as a loop inside a loop does.

Why it costs you
    It looks harmless on test data: twice the size costs four times the time, and the endpoint falls over when the data has grown.

How it decides
    A function is hot as in ``cpu-hot-spot``. Possible from that alone; a loop inside a loop, a membership test in a list or a sort inside a loop in its source
    is named. Confirmed where requests of growing size show an exponent whose interval lies above ``exponent_min``.

What would disprove it
    The time of a request grows no faster than its size: the exponent's interval includes 1.

How to fix
    A dictionary or set instead of searching a list, sorting once, a join or window function in the database, a limit on the size.

Sources
    Goldsmith, Aiken, Wilkerson, "Measuring Empirical Computational Complexity" (FSE 2007); Smith & Williams, "The Ramp".
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.code import Function, quadratic_hint
from perfloop.diagnose.finish import at, conclude, experiment_of, gain, ms, percent, share_of, short
from perfloop.diagnose.hot import Hot, hot_functions, queueing
from perfloop.diagnose.reading import Reading
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Experiment, Finding, Place, Proposal, RuleResult

ID = "superlinear"
NEEDS = ("solo", "stacks")
THRESHOLDS = {"share_min": 0.4, "request_min_s": 0.003, "exponent_min": 1.25}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge the hot function of every endpoint, by its source and by the experiment."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    for hot in hot_functions(reading, limit):
        function, hint = _hint(reading, hot)
        subject = f"{hot.file}:{hot.function}"
        result = experiment_of(evidence, ID, subject)
        if result is not None and result.supports is None and not hint:
            continue  # nothing speaks for it
        found.append(_finding(reading, hot, function, hint, subject, limit))
    return conclude(
        ID,
        evidence,
        found,
        f"no function computes {percent(limit['share_min'])} and {ms(limit['request_min_s'])} of a request, or nothing says that its cost outgrows its input",
    )


def _hint(reading: Reading, hot: Hot) -> tuple[Function | None, str]:
    """What the syntax of the hot function says, else that of a caller that runs it in a loop."""
    function = reading.code.function(hot.line.file, hot.line.line)
    if function is None:
        return None, ""
    hint = quadratic_hint(function)
    if not hint:
        for sample in reading.steps[hot.steps[0]].samples:
            keys = [(frame.file, frame.function) for frame in sample.app]
            if hot.key in keys:
                for frame in sample.app[: keys.index(hot.key)]:
                    if reading.code.in_loop(frame) and reading.code.in_loop(hot.line):
                        return function, f"a loop that is called inside a loop, at {at(frame, reading.source_root)}"
    return function, hint


def _finding(reading: Reading, hot: Hot, function: Function | None, hint: str, subject: str, limit: Mapping[str, float]) -> Finding:
    rate = sum(reading.steps[name].rate_per_s for name in hot.steps)
    won = hot.per_s + queueing(reading, hot.per_s)
    share = share_of(hot.per_request_s, hot.solo_s, hot.samples, "this endpoint alone")
    facts = [f"{hot.function}() computes {ms(hot.per_request_s)} of {ms(hot.solo_s)} per request of {hot.steps[0]}, alone"]
    facts.append(f"its source has {hint}" if hint else "its source shows no loop inside a loop")
    advice = "look up in a dict or set instead of searching, sort once, or let the database do it; bound the size that may be asked for"
    return Finding(
        rule=ID,
        confidence=Confidence.POSSIBLE,
        title=f"the cost of {hot.function}() grows faster than its input",
        place=Place(file=hot.file, line=hot.line.line, function=hot.function),
        steps=hot.steps,
        share=share,
        win_back_s=gain(won, rate, share, "this endpoint alone"),
        win_back_per_s=won,
        evidence=tuple(facts),
        hypothesis="twice the size costs more than twice the time",
        disproof="the time grows in proportion to the size, or less",
        experiment=Experiment(
            kind="size-sweep",
            params={"subject": subject, "step": hot.steps[0], "measure": "time", "exponent_min": limit["exponent_min"]},
            refutes="if the time of a request does not grow faster than its size, this is not it",
        ),
        fix=f"{short(hot.file, reading.source_root)}:{hot.line.line}: {advice}",
        prevention="test endpoints at several data sizes, not at one",
        proposals=(
            Proposal(
                kind="code",
                title=f"replace the algorithm of {hot.function}()",
                params={"file": hot.file, "line": hot.line.line, "function": hot.function, "advice": advice, "now": function.text if function else ""},
            ),
        ),
    )
