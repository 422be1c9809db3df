"""A query reads a large table for a few rows, because no index leads to them.

What it finds
    A query that takes a good part of the database's time and whose plan scans a large table, keeps few of its rows, and would be served by an index
    that does not exist.

Why it costs you
    Each call reads the whole table: the time grows with the data, and the CPU and memory it takes slow every other query.

How it decides
    The query was running in at least ``share_min`` of the sampled database time and costs its endpoints at least ``request_min_s`` per request. Its plan
    has a scan of a table of at least ``rows_min`` rows that keeps at most ``selectivity_max`` of them and makes up at least ``cost_share_min`` of the plan's
    cost. The columns come from the scan's filter: equality first, then one range or the order under a LIMIT; no existing B-tree index begins with them.
    Likely where the table was seen being scanned in the window, else possible.

What would disprove it
    A planner with the table's statistics and the index in place does not choose it, or its plan costs as much as before.

How to fix
    Create the index, CONCURRENTLY on a live database. Keep it only where it is proved to help: each index makes writes dearer.

Sources
    PostgreSQL documentation, "Indexes" and "Using EXPLAIN"; https://use-the-index-luke.com on the order of columns.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.diagnose.finish import conclude, experiment_of, gain, ms, percent, share_of
from perfloop.diagnose.frames import Doing
from perfloop.diagnose.plans import Scan, replaceable_scans
from perfloop.diagnose.reading import DATABASE_PEERS, Reading
from perfloop.model.evidence import Evidence, PostgresObservation, QueryLoad
from perfloop.model.finding import Confidence, Experiment, Finding, Place, Proposal, RuleResult

ID = "missing-index"
NEEDS = ("postgres",)
THRESHOLDS = {"share_min": 0.2, "request_min_s": 0.005, "rows_min": 10_000.0, "selectivity_max": 0.1, "cost_share_min": 0.4}


def diagnose(evidence: Evidence, thresholds: Mapping[str, float]) -> RuleResult:
    """Judge every sampled query whose plan is known."""
    limit = {**THRESHOLDS, **thresholds}
    reading = Reading(evidence)
    found: list[Finding] = []
    looked = 0
    for database in evidence.postgres:
        whole = sum(query.active_samples for query in database.queries)
        plans = {plan.query_id: plan for plan in database.plans}
        for query in sorted(database.queries, key=lambda item: -item.active_samples):
            plan = plans.get(query.query_id)
            if plan is None or not whole or query.active_samples / whole < limit["share_min"] or _only_locked(query):
                continue
            looked += 1
            scans = replaceable_scans(plan.plan, database.tables, limit["rows_min"], limit["selectivity_max"])
            scans = [scan for scan in scans if scan.cost_share >= limit["cost_share_min"]]
            if scans:
                finding = _finding(reading, database, query, whole, scans[0], limit)
                if finding:
                    found.append(finding)
    clear = f"{looked} plans of the queries with at least {percent(limit['share_min'])} of the database's time scan no large table for few rows"
    return conclude(ID, evidence, found, clear)


def _only_locked(query: QueryLoad) -> bool:
    locked = sum(count for wait, count in query.waits.items() if wait.startswith("Lock"))
    return locked > 0.5 * query.active_samples


def _finding(reading: Reading, database: PostgresObservation, query: QueryLoad, whole: int, scan: Scan, limit: Mapping[str, float]) -> Finding | None:
    busy = query.active_samples / max(1, database.samples)  # sessions running it at any moment: seconds per second
    steps = _steps_of(reading, scan)
    rate = sum(reading.steps[name].rate_per_s for name in steps)
    per_request = busy / rate if rate > 0 else 0.0
    if per_request < limit["request_min_s"]:
        return None
    subject = f"{query.query_id} {scan.ddl}"
    saved = 1 - scan.cost_indexed / scan.cost if scan.cost > 0 else 0.0
    twin = experiment_of(reading.evidence, ID, subject)
    if twin and len(twin.y) == 2 and twin.y[0] > 0:
        saved = max(0.0, 1 - twin.y[1] / twin.y[0])
    scanned = scan.table.seq_scan > 0 and scan.table.seq_tup_read >= 0.5 * scan.table.rows
    seen = scanned or scan.node_type != "Seq Scan"
    share = share_of(query.active_samples, whole, whole, "sampled sessions")
    columns = ", ".join(name for name, _ in scan.columns)
    facts = [
        f"{percent(query.active_samples / whole)} of the database's time goes to this query: {query.active_samples} of {whole} active session samples",
        f"{ms(per_request)} per request of {', '.join(steps) or 'the service'}, under load",
        f"plan: {scan.node_type} on {scan.table.name} ({scan.table.rows:,} rows) keeps about {scan.rows_out:,.0f}, {percent(scan.cost_share)} of the plan's cost",
        f"no index of {scan.table.name} begins with {columns}",
    ]
    if scanned:
        facts.append(f"{scan.table.seq_scan} scans of the whole table in {database.window_s:.0f} s, reading {scan.table.seq_tup_read:,} rows")
    return Finding(
        rule=ID,
        confidence=Confidence.LIKELY if seen else Confidence.POSSIBLE,
        title=f"{scan.table.name} is read whole for few rows: no index on ({columns})",
        place=Place(query=query.text, query_id=query.query_id),
        steps=tuple(steps),
        share=share,
        win_back_s=gain(busy * saved, rate, share, "sampled sessions and plan costs"),
        win_back_per_s=busy * saved,
        evidence=tuple(facts),
        hypothesis=f"with an index on ({columns}) the query reads only the rows it needs",
        disproof="the planner does not choose the index, or the plan costs as much with it",
        experiment=Experiment(
            kind="twin-index",
            params={"subject": subject, "ddl": scan.ddl, "query_id": query.query_id, "query": query.text},
            refutes="if a planner with this table's statistics does not get cheaper with the index, this is not it",
        ),
        fix=scan.ddl.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY"),
        prevention="run EXPLAIN on new queries against data of production size; watch seq_tup_read of large tables",
        actor="database administrator",
        proposals=(_proposal(query, scan),),
    )


def _proposal(query: QueryLoad, scan: Scan) -> Proposal:
    schema, _, table = scan.table.name.rpartition(".")
    params = {"schema": schema or "public", "table": table, "columns": [list(item) for item in scan.columns], "query_id": query.query_id}
    return Proposal(kind="postgres-index", title=f"index {scan.table.name} ({', '.join(name for name, _ in scan.columns)})", params=params)


def _steps_of(reading: Reading, scan: Scan) -> list[str]:
    """The endpoints that wait for the database most, those whose code names the table before others; worst first."""
    word = scan.table.name.rpartition(".")[2].replace("_", "").rstrip("s")
    scores: dict[str, float] = {}
    for name, step in reading.steps.items():
        waits = max(step.alone(Doing.DATABASE), step.waited(DATABASE_PEERS))
        functions = {reading.code.function(frame.file, frame.line) for sample in step.samples for frame in sample.app}
        named = any(function and word in function.text.lower().replace("_", "") for function in functions)
        scores[name] = waits * max(step.rate_per_s, 1e-6) * (3.0 if named else 1.0)
    whole = sum(scores.values())
    ranked = sorted(scores, key=lambda name: -scores[name])
    return [name for name in ranked if whole > 0 and scores[name] >= 0.3 * whole] or ranked
