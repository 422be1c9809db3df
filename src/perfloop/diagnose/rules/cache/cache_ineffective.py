"""A cache is there, and the work is done again all the same.

What it finds
    A function that keeps its results (a caching decorator, or a container that it reads and fills by one key) and still computes them for most of a request.

Why it costs you
    Each miss pays for the lookup, the work and the memory. A key that never comes again, a lifetime that is too short or a cache made anew for each request make every call a miss.

How it decides
    Sent alone, at least ``share_min`` of the endpoint's time and ``request_min_s`` per request pass inside the function behind the cache. That alone is
    possible: different requests may rightly miss. Confirmed where the very same request, sent again and again, does not get cheaper.

What would disprove it
    The very same request is cheap the second time: the cache works, and only its keys are many.

How to fix
    Build the key from what the result depends on and nothing else, share one cache between requests, and choose its size and lifetime by the number of keys in use.

Sources
    Gregg, "Systems Performance" (cache hit ratio); Python documentation, functools.lru_cache; cachetools documentation on keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from perfloop.diagnose.code import Function, Memo, memo_of
from perfloop.diagnose.finish import conclude, gain, ms, percent, share_of, short
from perfloop.diagnose.reading import Reading, Sample, StepView
from perfloop.model.evidence import Evidence, Frame
from perfloop.model.finding import Confidence, Experiment, Finding, Place, Proposal, RuleResult

ID = "cache-ineffective"
NEEDS = ("solo", "stacks", "source")
THRESHOLDS = {"share_min": 0.4, "request_min_s": 0.003}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every cached function on the path of every endpoint."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    for step in reading.steps.values():
        best: tuple[float, Function, Memo] | None = None
        for key, (function, memo) in cached_functions(reading, step.samples).items():
            spent = sum(sample.total for sample in step.samples if behind(reading, sample, key, function))
            if step.solo_s and spent >= max(limit["share_min"] * step.solo_s, limit["request_min_s"]) and (best is None or spent > best[0]):
                best = (spent, function, memo)
        if best:
            found.append(_finding(reading, step, *best))
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(ID, evidence, found, f"no function behind a cache takes {percent(limit['share_min'])} and {ms(limit['request_min_s'])} of a request")


def cached_functions(reading: Reading, samples: Iterable[Sample]) -> dict[tuple[str, int], tuple[Function, Memo]]:
    """The functions on these stacks that keep their results, by file and place."""
    found: dict[tuple[str, int], tuple[Function, Memo]] = {}
    frames: set[Frame] = {frame for sample in samples for frame in sample.app}
    for frame in frames:
        function = reading.code.function(frame.file, frame.line)
        if function is None or (function.file, function.shift) in found:
            continue
        memo = memo_of(function)
        if memo:
            found[function.file, function.shift] = (function, memo)
    return found


def behind(reading: Reading, sample: Sample, key: tuple[str, int], function: Function) -> bool:
    """True where the sample was inside that function."""
    for frame in sample.app:
        if frame.file == key[0]:
            around = reading.code.function(frame.file, frame.line)
            if around is not None and around.shift == function.shift:
                return True
    return False


def _finding(reading: Reading, step: StepView, spent: float, function: Function, memo: Memo) -> Finding:
    share = share_of(spent, step.solo_s or 0.0, sum(sample.count for sample in step.samples), "this endpoint alone")
    where = f"{short(function.file, reading.source_root)}:{memo.line}"
    advice = "key by what the result depends on and nothing else, share the cache between requests, and fit its size and lifetime to the keys in use"
    name = function.node.name
    won = spent * step.rate_per_s
    return Finding(
        rule=ID,
        confidence=Confidence.POSSIBLE,
        title=f"the cache of {name}() does not spare its work",
        place=Place(file=function.file, line=memo.line, function=name),
        steps=(step.name,),
        share=share,
        win_back_s=gain(won, step.rate_per_s, share, "this endpoint alone"),
        win_back_per_s=won,
        evidence=(
            f"{name}() keeps its results ({memo.how}, {where})",
            f"and still takes {ms(spent)} of {ms(step.solo_s or 0.0)} per request of {step.name}, alone ({step.requests} requests)",
        ),
        hypothesis="calls that should hit the cache miss it",
        disproof="the very same request is cheap when it is sent again",
        experiment=Experiment(
            kind="repeat-same",
            params={"subject": f"{function.file}:{name} {step.name}", "step": step.name, "spent_s": spent, "solo_s": step.solo_s or 0.0},
            refutes="if the very same request gets cheap when it is repeated, the cache works and this is not it",
        ),
        fix=f"{where}: {advice}",
        prevention="count hits and misses of every cache, and alert on the ratio",
        proposals=(
            Proposal(
                kind="code",
                title=f"make the cache of {name}() hit",
                params={"file": function.file, "line": memo.line, "function": name, "advice": advice, "now": function.text},
            ),
        ),
    )
