"""One request sends the same query again and again, once per row of another result.

What it finds
    Endpoints that make many database round trips per request from one line of code, typically a relation loaded row by row (lazily) inside a loop.

Why it costs you
    Each round trip costs the network, the driver, the object mapper and a planner, whatever it returns; the page gets slower with each row that it shows.

How it decides
    The endpoint, sent alone, makes at least ``round_trips_min`` round trips to the database per request (transaction statements subtracted where
    they were counted by the kernel and not by the agent or in traces), and they take at least ``share_min`` of its time and ``request_min_s``. Likely where one line (or one loop) of the application holds at least
    ``line_share_min`` of that time and is inside a loop or a lazy load, or where the round trips are at least ``many``; else possible.

What would disprove it
    The number of round trips stays the same when the request asks for more rows.

How to fix
    Fetch the related rows in one query: SQLAlchemy ``selectinload``/``joinedload``, Django ``select_related``/``prefetch_related``, or plain SQL with
    ``WHERE id = ANY(…)`` or a join.

Sources
    Sentry, "N+1 queries" detector (behaviour); Smith & Williams, "Circuitous Treasure Hunt"; SQLAlchemy and Django documentation on relationship loading.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.calls import repeated_place
from perfloop.diagnose.counted import counted_place
from perfloop.diagnose.finish import at, conclude, gain, ms, percent, place_of, share_of
from perfloop.diagnose.frames import Doing, library_path
from perfloop.diagnose.reading import DATABASE_PEERS, Reading, Sample, StepView
from perfloop.diagnose.repeats import delay_slope
from perfloop.model.evidence import Evidence, Frame, QueryLoad
from perfloop.model.finding import Confidence, Experiment, Finding, Proposal, RuleResult

ID = "n-plus-one"
NEEDS = ("solo",)
THRESHOLDS = {"round_trips_min": 8.0, "share_min": 0.3, "request_min_s": 0.003, "line_share_min": 0.4, "many": 20.0}

TRANSACTION_TRIPS = 2.0  # BEGIN and COMMIT or ROLLBACK
_LAZY = ("/sqlalchemy/orm/strategies", "/django/db/models/fields/related_descriptors", "/django/db/models/query_utils", "/peewee.py", "/pony/orm")


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every endpoint that was sent alone."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    most = 0.0
    found: list[Finding] = []
    for step in reading.steps.values():
        exact = step.counted.get("database")
        trips = exact.per_request if exact else step.trips(DATABASE_PEERS) - TRANSACTION_TRIPS
        most = max(most, trips)
        if trips < limit["round_trips_min"] or not step.solo_s:
            continue
        on_stacks = sum(sample.total for sample in step.samples if sample.layer is Doing.DATABASE or sample.waits_for is Doing.DATABASE)
        spent = min(max(on_stacks, step.waited(DATABASE_PEERS), exact.seconds if exact else 0.0), step.solo_s)
        if spent >= limit["share_min"] * step.solo_s and spent >= limit["request_min_s"]:
            found.append(_finding(reading, step, trips, spent, limit))
    found.sort(key=lambda finding: -finding.win_back_per_s)
    return conclude(
        ID,
        evidence,
        found,
        f"no endpoint makes {limit['round_trips_min']:.0f} or more database round trips per request that cost it; the most is {max(most, 0):.0f}",
    )


def _finding(reading: Reading, step: StepView, trips: float, spent: float, limit: Mapping[str, float]) -> Finding:
    samples = [sample for sample in step.samples if sample.layer is Doing.DATABASE or sample.waits_for is Doing.DATABASE]
    whole = sum(sample.total for sample in samples)
    place, held = repeated_place(reading, samples)
    lazy = sum(sample.total for sample in samples if _is_lazy(sample))
    exact = step.counted.get("database")
    line, looped_calls = counted_place(reading.code, exact.most) if exact else (None, False)
    repeated = place is not None and whole > 0 and held >= limit["line_share_min"] * whole and (_looped(reading, samples, place) or lazy >= 0.4 * whole)
    same = exact is not None and exact.most_per_request >= limit["line_share_min"] * trips
    likely = repeated or trips >= limit["many"] or (same and looped_calls)
    if same and line is not None and not repeated:
        place = line
    saved = spent * (1 - min(1.0, 2 / max(trips, 2)))
    count = sum(sample.count for sample in step.samples)
    share = share_of(spent, step.solo_s or 0.0, count, "this endpoint alone")
    query = _query(reading) if exact is None else QueryLoad(query_id="", text=exact.most.text, active_samples=0)
    facts = [
        f"{trips:.0f} database round trips per request of {step.name}, transaction statements not counted ({step.requests} requests alone)",
        f"they take {ms(spent)} of {ms(step.solo_s or 0.0)} per request",
    ]
    if place is not None and whole > 0:
        facts.append(
            f"{percent(held / whole)} of the database time is under {at(place, reading.source_root)} in {place.function}()"
            + (": a lazy load" if lazy >= 0.4 * whole else "")
        )
    facts += [exact.told] if exact else []
    if query and not exact:
        facts.append(f"most often seen running under load: {query.text[:200]}")
    where = f"{at(place, reading.source_root)}: " if place else ""
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if likely else Confidence.POSSIBLE,
        title=f"{step.name} sends {trips:.0f} queries per request, one after another",
        place=place_of(place).with_(query=query.text if query else "", query_id=query.query_id if query else ""),
        steps=(step.name,),
        share=share,
        win_back_s=gain(saved * step.rate_per_s, step.rate_per_s, share, "this endpoint alone"),
        win_back_per_s=saved * step.rate_per_s,
        evidence=tuple(facts),
        hypothesis="the same query is sent once per row; one query for all rows would do",
        disproof="the number of round trips stays the same when more rows are asked for",
        experiment=Experiment(
            kind="size-sweep",
            params={"subject": step.name, "step": step.name, "measure": "round-trips"},
            refutes="if the round trips do not grow with the size of the result, this is not it",
            otherwise=delay_slope(
                step,
                DATABASE_PEERS,
                max(DATABASE_PEERS, key=lambda kind: step.round_trips.get(kind, 0.0)),
                trips,
                "if latency grows by fewer round trips than were counted, they are not made one after another",
            ),
        ),
        fix=where + "fetch the related rows in one query: " + _advice(samples),
        prevention="assert the number of queries in tests of list endpoints",
        proposals=(Proposal(kind="code", title="load the related rows together", params=_code(reading, place, samples)),),
    )


def _looped(reading: Reading, samples: list[Sample], place: Frame) -> bool:
    if reading.code.in_loop(place):
        return True
    under = [sample for sample in samples if sample.place == place]
    looped = sum(sample.total for sample in under if any(reading.code.in_loop(frame) for frame in sample.app))
    return looped >= 0.5 * sum(sample.total for sample in under) > 0


def _is_lazy(sample: Sample) -> bool:
    return any(library_path(frame.file).startswith(_LAZY) for frame in sample.beneath)


def _query(reading: Reading) -> QueryLoad | None:
    """The query most often seen under load whose plan returns few rows (or has no plan)."""
    for database in reading.evidence.postgres:
        rows = {plan.query_id: float(plan.plan.get("Plan", plan.plan).get("Plan Rows", 0)) for plan in database.plans}
        for query in sorted(database.queries, key=lambda item: -item.active_samples):
            if rows.get(query.query_id, 0) <= 100 and query.text.lstrip().upper().startswith(("SELECT", "WITH")):
                return query
    return None


def _library(samples: list[Sample]) -> str:
    paths = {library_path(frame.file) for sample in samples for frame in sample.beneath}
    if any(path.startswith("/sqlalchemy/orm/") for path in paths):
        return "sqlalchemy"
    return "django" if any(path.startswith("/django/db/") for path in paths) else "sql"


_ADVICE = {
    "sqlalchemy": "add .options(selectinload(Parent.children)) (or joinedload for to-one relations) to the query of the parents",
    "django": "add .select_related() (to-one) or .prefetch_related() (to-many) to the query of the parents",
    "sql": "collect the keys first, then one query WHERE id = ANY(…) or a JOIN",
}


def _advice(samples: list[Sample]) -> str:
    return _ADVICE[_library(samples)]


def _code(reading: Reading, place: Frame | None, samples: list[Sample]) -> dict[str, object]:
    if place is None:
        return {"advice": _advice(samples)}
    function = reading.code.function(place.file, place.line)
    return {"file": place.file, "line": place.line, "function": place.function, "advice": _advice(samples), "now": function.text if function else ""}
