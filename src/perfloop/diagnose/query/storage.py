"""Causes in how a table lies on disk: the visibility map, bloat, growth."""

from __future__ import annotations

from perfloop.diagnose.query.view import View, cause, confidence_of, quoted_table, share_text, trial_facts
from perfloop.model.finding import Confidence, Finding, Proposal

GROWTH_MIN = 1.5
BLOAT_MIN = 2.0
FETCHES_MIN = 1_000.0


def visibility(view: View) -> list[Finding]:
    """An index-only scan must look into the table, or is not chosen, because the visibility map is not set: no vacuum came."""
    found = []
    trial = next(iter(view.trials("visibility")), None)
    for node in view.nodes:
        if node.node_type != "Index Only Scan" or node.heap_fetches < FETCHES_MIN or view.share(node) < 0.2:
            continue
        if node.heap_fetches < 0.3 * max(1.0, node.rows_actual * node.loops):
            continue
        found.append(
            _visibility(view, node.relation, (share_text(view, node), f"{node.heap_fetches:,.0f} looks into the table by an index-only scan"), view.share(node))
        )
    if not found and trial and (trial.forward and trial.backward) and view.slower is not False:
        found.append(_visibility(view, trial.subjects[0] if trial.subjects else "", trial_facts(trial), 1.0))
    return found[:1]


def _visibility(view: View, relation: str, facts: tuple[str, ...], share: float) -> Finding:
    table = view.table(relation)
    more = [f"{table.visible_share:.0%} of its pages are known to be visible to all; last vacuum: {table.last_vacuum or 'never'}"] if table else []
    if table and table.xmin_holder:
        more.append(f"held back by {table.xmin_holder}")
    schema, bare = quoted_table(relation)
    return cause(
        view,
        "visibility-map",
        f"the visibility map of {relation} is not set, so that an index alone does not do",
        facts=(*facts, *more),
        share=share,
        hypothesis="after VACUUM the index-only scan needs the table no more",
        disproof="after VACUUM as many rows are fetched from the table",
        fix=f"VACUUM {relation};" + (f" first end {table.xmin_holder}" if table and table.xmin_holder else ""),
        prevention="autovacuum_vacuum_insert_scale_factor (13 and later) and autovacuum_vacuum_scale_factor lower for this table",
        proposals=(Proposal(kind="postgres-vacuum", title=f"vacuum {bare}", params={"schema": schema, "table": bare}),),
    )


def growth_and_bloat(view: View) -> list[Finding]:
    """Same plan, but the table has become larger: more rows (growth), or more pages for the same rows (bloat)."""
    if view.slower is False or (view.evidence.plan_changed and not view.trials("size")):
        return []
    found = []
    trial = next(iter(view.trials("size")), None)
    for table in view.evidence.tables:
        nodes = [node for node in view.nodes if node.relation == table.name]
        share = sum(view.share(node) for node in nodes)
        if not nodes or share < 0.2 or not table.pages_then or table.rows_then is None or not table.pages:
            continue
        rows, rows_then = max(table.rows or float(table.live_rows), 1.0), max(table.rows_then, 1.0)
        pages, more = table.pages / max(1, table.pages_then), rows / rows_then
        facts = [f"{rows_then:,.0f} → {rows:,.0f} rows, {table.pages_then:,} → {table.pages:,} pages", *(share_text(view, node) for node in nodes[:2])]
        facts += trial_facts(trial) if trial else ()
        schema, bare = quoted_table(table.name)
        if pages >= BLOAT_MIN * more and (any(node.node_type in ("Seq Scan", "Bitmap Heap Scan", "Index Scan") for node in nodes)):
            found.append(
                cause(
                    view,
                    "table-bloat",
                    f"{table.name} takes {pages:.1f} times the pages for {more:.1f} times the rows",
                    facts=(*facts, f"{table.dead_rows:,} dead rows", *([f"held back by {table.xmin_holder}"] if table.xmin_holder else [])),
                    share=share,
                    confidence=confidence_of(trial) if trial else Confidence.LIKELY,
                    hypothesis="rewritten, the table has its old size and the query its old time",
                    disproof="after the rewrite it is as slow",
                    fix=f"VACUUM {table.name} lets the room be used again; to give it back: pg_repack (online), or VACUUM FULL {table.name} in a window (it locks out all)",
                    prevention="autovacuum_vacuum_scale_factor = 0.02 for tables that are updated much; no transactions open for hours",
                    proposals=(Proposal(kind="postgres-vacuum", title=f"vacuum {bare}", params={"schema": schema, "table": bare}),),
                )
            )
        elif (more if table.modified_since_analyze == 0 else pages) >= GROWTH_MIN and pages >= 0.8 * GROWTH_MIN and (view.slower or view.time_ms >= 5.0):
            found.append(
                cause(
                    view,
                    "data-growth",
                    f"{table.name} has grown to {max(more, pages):.1f} times its size",
                    facts=tuple(facts),
                    share=share,
                    confidence=confidence_of(trial) if trial else Confidence.LIKELY,
                    hypothesis="the time follows the number of rows that the query reads",
                    disproof="on the old number of rows it is as slow",
                    fix="read fewer rows: an index for the filter or the order, partitions that can be left out, a roll-up table, or delete what is old",
                    prevention="test with the data of next year: perfloop's volume test",
                    actor="backend developer",
                )
            )
    return found[:1]
