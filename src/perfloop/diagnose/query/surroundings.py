"""Causes around the plan: locks, settings, memory, the cache, generic plans, partitions, and too many calls."""

from __future__ import annotations

from perfloop.diagnose.finish import percent
from perfloop.diagnose.query.view import View, cause, confidence_of, share_text, trial_facts
from perfloop.model.finding import Confidence, Finding, Proposal

LOCKED_SHARE_MIN = 0.5
TEMP_PAGES_MIN = 128
COLD_RATIO_MIN = 3.0
COLD_PAGES_MIN = 200
GENERIC_RATIO_MIN = 3.0
PARTITIONS_MIN = 4
NPLUS_ROWS_MIN = 5.0


def lock_wait(view: View) -> list[Finding]:
    """It waits for another session's lock; its plan is innocent."""
    run = view.evidence.run
    if run is None or not run.lock_wait_ms:
        return []
    whole = max(sum(run.times_ms) + (run.lock_wait_ms if run.timed_out else 0.0), run.lock_wait_ms)
    share = run.lock_wait_ms / whole if whole else 0.0
    if share < LOCKED_SHARE_MIN:
        return []
    root = run.blockers[0] if run.blockers else "the session that holds it was gone before it could be seen"
    return [
        cause(
            view,
            "lock-wait",
            f"it waits for a lock: {percent(share)} of the time that it was watched",
            facts=(
                f"{run.lock_wait_ms:,.0f} ms waiting for a lock" + (", then given up after 2 s" if run.timed_out else ""),
                *(f"lock tree: {line}" for line in run.blockers),
            ),
            share=share,
            confidence=Confidence.CONFIRMED,
            hypothesis="when the session at the root ends its transaction, the query runs as it did",
            disproof="without the other session it is as slow",
            fix=f"end the session at the root, or its transaction ({root.split(':')[0]}); this query needs no change",
            prevention="DDL with SET lock_timeout = '2s' and retries; idle_in_transaction_session_timeout; short transactions",
        )
    ]


def setting_changed(view: View) -> list[Finding]:
    """A setting of the planner is another one than before, and flips the plan."""
    found = []
    for trial in view.trials("setting"):
        if view.slower is False or not (trial.forward or trial.backward):
            continue
        name = ", ".join(trial.subjects)
        old = trial.detail.split(" → ")[0]
        found.append(
            cause(
                view,
                "setting-changed",
                f"the setting {name} changed: {trial.detail}",
                facts=trial_facts(trial),
                confidence=confidence_of(trial),
                hypothesis="with the old value the planner goes back to the old plan",
                disproof="with the old value the plan stays as it is",
                fix=f"ALTER SYSTEM SET {name} = '{old}'; SELECT pg_reload_conf(); (or where it was set: ALTER ROLE, ALTER DATABASE)",
                prevention="keep planner settings under version control; perfloop query --was tells what moved",
                proposals=(Proposal(kind="postgres-database-setting", title=f"{name} back to {old}", params={"name": name, "value": old}),)
                if len(trial.subjects) == 1
                else (),
                setting=name,
            )
        )
    return found


def generic_plan(view: View) -> list[Finding]:
    """Prepared, it gets a plan that may not look at its values, and that plan is much slower for these values."""
    slow, fast = view.evidence.generic_ms, view.time_ms
    if not slow or not fast or slow < GENERIC_RATIO_MIN * fast or slow - fast < 1.0 or view.evidence.plan_cache_mode == "force_custom_plan":
        return []
    return [
        cause(
            view,
            "generic-plan",
            f"prepared with a generic plan it takes {slow:,.1f} ms, with a plan for its values {fast:,.1f} ms",
            facts=(
                f"plan_cache_mode = {view.evidence.plan_cache_mode or 'auto'}: after five executions PostgreSQL keeps the generic plan where it looks no dearer",
                f"generic: {slow:,.1f} ms; for these values: {fast:,.1f} ms, measured with both",
            ),
            confidence=Confidence.CONFIRMED if view.evidence.mean_ms and view.evidence.mean_ms > (slow + fast) / 2 else Confidence.LIKELY,
            hypothesis="with a plan for each execution's own values it is fast again",
            disproof="with plan_cache_mode = force_custom_plan it is as slow",
            fix="ALTER ROLE <the service's role> SET plan_cache_mode = force_custom_plan; or turn off server-side prepared statements for this query in the driver",
            prevention="no server-side prepared statements for queries whose best plan depends on the value (prepareThreshold=0, prepare_threshold=None)",
            proposals=(
                Proposal(
                    kind="postgres-database-setting",
                    title="plan_cache_mode = force_custom_plan",
                    params={"name": "plan_cache_mode", "value": "force_custom_plan"},
                ),
            ),
            setting="plan_cache_mode",
        )
    ]


def pruning_lost(view: View) -> list[Finding]:
    """All partitions are read although the query names a part of them."""
    found = []
    for table in view.evidence.tables:
        if table.partitions < PARTITIONS_MIN:
            continue
        leaves = [node for node in view.nodes if node.relation and node.relation in table.partition_names]
        read = {node.relation for node in leaves if node.loops}
        idle = {node.relation for node in leaves if node.loops and not node.rows_actual}
        keyed = [one for one in view.evidence.conditions if one.table in read and one.column in table.partition_key and (one.cast_matters or one.function)]
        if len(read) < 0.9 * table.partitions or len(idle) < 0.5 * len(read) or not keyed:
            continue
        own = sum(view.share(node) for node in leaves if node.relation in idle)
        one = keyed[0]
        found.append(
            cause(
                view,
                "pruning-lost",
                f"all {table.partitions} partitions of {table.name} are read, {len(idle)} of them for nothing",
                facts=(
                    f"the condition {one.text} {'casts' if one.cast_matters else 'wraps'} the partition key {one.column}, so that no partition can be left out",
                ),
                share=max(own, 0.5),
                hypothesis="with the bare key compared with a value of its own type, the planner leaves the other partitions out",
                disproof="with the bare key all partitions are still read",
                fix=f"compare {one.column} itself with a value of its own type (a range instead of a function, $1::<type of the column>)",
                prevention="test with EXPLAIN that one partition is read; bind values in the key's type",
                actor="backend developer",
                proposals=(Proposal(kind="code", title=f"compare the partition key {one.column} bare"),),
            )
        )
    return found


def spill(view: View) -> list[Finding]:
    """A sort or a hash does not fit in work_mem and goes to disk."""
    spilling = [node for node in view.nodes if node.temp_pages >= TEMP_PAGES_MIN]
    share = sum(view.share(node) for node in spilling)
    if not spilling or share < 0.2:
        return []
    evidence = view.evidence
    pages = sum(node.temp_pages for node in spilling)
    lowered = evidence.work_mem_then_kb is not None and evidence.work_mem_kb < evidence.work_mem_then_kb
    wanted = _work_mem_kb(pages, evidence.work_mem_then_kb if lowered else None)
    facts = [share_text(view, node) + (f", {node.detail}" if node.detail else "") for node in spilling]
    facts.append(f"{pages * 8 / 1024:,.1f} MiB written to temporary files with work_mem = {evidence.work_mem_kb:,} kB")
    if lowered:
        facts.append(f"work_mem was {evidence.work_mem_then_kb:,} kB")
    return [
        cause(
            view,
            "spill",
            f"it sorts or hashes on disk: work_mem of {evidence.work_mem_kb:,} kB is too small for it",
            facts=tuple(facts),
            share=share,
            confidence=Confidence.LIKELY,
            hypothesis="in memory the same step is faster",
            disproof=f"with SET work_mem = '{wanted}kB' it takes as long",
            fix=f"SET work_mem = '{wanted}kB' for this query or its role (each sort and hash of each session may take that much, so not for all)",
            prevention="set work_mem by role; select and sort fewer columns; LIMIT or an index in the wanted order",
            proposals=(Proposal(kind="postgres-database-setting", title=f"work_mem = {wanted} kB", params={"name": "work_mem", "value": f"{wanted}kB"}),),
            setting="work_mem",
        )
    ]


def _work_mem_kb(pages: int, before_kb: int | None) -> int:
    """Twice what was written (in memory rows take more room), to a power of two; or the old value."""
    if before_kb:
        return before_kb
    wanted = 1024
    while wanted < pages * 8 * 2.5 and wanted < 1_048_576:
        wanted *= 2
    return wanted


def cold_cache(view: View) -> list[Finding]:
    """The first run reads from disk what the next ones find in memory."""
    run = view.evidence.run
    if run is None or len(run.times_ms) < 2:
        return []
    first, best = run.times_ms[0], min(run.times_ms[1:])
    if first < COLD_RATIO_MIN * best or first - best < 2.0 or run.pages_read_first < max(COLD_PAGES_MIN, 4 * run.pages_read_best):
        return []
    return [
        cause(
            view,
            "cold-cache",
            f"the first run takes {first:,.0f} ms, the next {best:,.0f} ms: its data is not in memory",
            facts=(
                f"first run: {run.pages_read_first:,} pages read from outside shared_buffers ({run.pages_read_first * 8 / 1024:,.1f} MiB)",
                f"fastest run: {run.pages_read_best:,} pages read",
            ),
            share=min(1.0, (first - best) / first),
            hypothesis="with its pages in memory it is fast; after a restart or a fail-over, or when other queries push them out, it is slow",
            disproof="the first run after a while is as fast as the others",
            fix="pg_prewarm after a restart; a larger shared_buffers where the working set fits; an index that needs fewer pages",
            prevention="pg_prewarm's autoprewarm worker; watch the hit ratio of this query, not of the server",
        )
    ]


def n_plus_one(view: View) -> list[Finding]:
    """It is fast, and called once for each row of another query."""
    evidence = view.evidence
    if not evidence.parent or evidence.parent_ratio is None or (evidence.calls or 0) < 100 or view.slower:
        return []
    return [
        cause(
            view,
            "n-plus-one",
            f"it is called {evidence.parent_ratio:,.1f} times for each call of another statement",
            facts=(
                f"{evidence.calls:,} calls of {evidence.mean_ms or 0:,.3f} ms, {evidence.rows_per_call or 0:.1f} rows a call",
                f"the other statement returns as many rows: {evidence.parent}",
            ),
            share=1.0,
            hypothesis="the application asks once for each row of a list",
            disproof="the calls do not follow the rows of the other statement over time",
            fix="fetch them together: JOIN, WHERE id = ANY($1), or the ORM's eager loading (select_related, includes, JOIN FETCH)",
            prevention="count queries per request in tests",
            actor="backend developer",
            proposals=(Proposal(kind="code", title="fetch the rows of the list together"),),
        )
    ]
