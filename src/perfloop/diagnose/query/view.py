"""The evidence of one query as the causes read it: where its time went, and which nodes were misjudged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from perfloop.diagnose.finish import percent
from perfloop.model.base import Estimate
from perfloop.model.finding import Confidence, Finding, Place, Proposal
from perfloop.model.query import Condition, FactorTried, NodeRun, QueryEvidence, TableNow

SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan")
MISJUDGED_MIN = 8.0  # estimated and actual rows differ by this factor
ROWS_MATTER_MIN = 200.0  # and by so many rows


@dataclass(frozen=True)
class View:
    """One query's evidence. Times are those of the fastest run."""

    evidence: QueryEvidence

    @cached_property
    def nodes(self) -> tuple[NodeRun, ...]:
        """The executed nodes, top down."""
        return self.evidence.run.nodes if self.evidence.run else ()

    @cached_property
    def time_ms(self) -> float:
        """The fastest run."""
        return self.evidence.run.best_ms if self.evidence.run else 0.0

    @cached_property
    def ratio(self) -> float | None:
        """Time now over time then; None where either is not known."""
        then = self.evidence.time_then_ms
        now = self.time_ms or (self.evidence.mean_ms or 0.0)
        if self.evidence.run and self.evidence.run.timed_out and not self.time_ms:
            now = max(now, self.evidence.run.lock_wait_ms)
        return now / then if then and now else None

    @property
    def slower(self) -> bool | None:
        """True where it is clearly slower than it was, False where it is not, None where the time then is not known."""
        if self.ratio is None:
            return None
        then = self.evidence.time_then_ms or 0.0
        return self.ratio >= 1.5 and self.ratio * then - then >= 1.0

    def share(self, node: NodeRun) -> float:
        """The node's own part of the time, 0..1."""
        return min(1.0, node.own_ms / self.time_ms) if self.time_ms else 0.0

    def under(self, node: NodeRun) -> tuple[NodeRun, ...]:
        """The node and all below it."""
        start = self.nodes.index(node)
        found = [node]
        for other in self.nodes[start + 1 :]:
            if other.depth <= node.depth:
                break
            found.append(other)
        return tuple(found)

    def parallel(self, node: NodeRun) -> bool:
        """True where its loops are those of parallel workers."""
        return any("Gather" in other.node_type and node in self.under(other) for other in self.nodes) and not any(
            other.node_type == "Nested Loop" and node in self.under(other)[2:] for other in self.nodes
        )

    def table(self, name: str) -> TableNow | None:
        """What is known of a table."""
        bare = name.replace('"', "")
        return next((table for table in self.evidence.tables if table.name.replace('"', "") == bare), None)

    def conditions(self, relation: str) -> list[Condition]:
        """The simple conditions on a table."""
        return [condition for condition in self.evidence.conditions if condition.table == relation]

    @cached_property
    def misjudged(self) -> tuple[NodeRun, ...]:
        """Scans and joins whose rows the planner got wrong by a factor of 8 or more, the deepest first: what is above inherits the error."""
        found = [node for node in self.nodes if misjudged(node)]
        return tuple(sorted(found, key=lambda node: (node.node_type not in (*SCANS, "Bitmap Index Scan"), -node.depth)))

    def trials(self, *kinds: str) -> list[FactorTried]:
        """Factors that explain the change, of these kinds."""
        return [trial for trial in self.evidence.trials if trial.kind in kinds]


def misjudged(node: NodeRun, factor: float = MISJUDGED_MIN) -> bool:
    """True where estimate and truth differ by a factor (of 8) and by 200 rows in all."""
    low, high = sorted((max(node.rows_estimated, 1.0), max(node.rows_actual, 1.0)))
    return high / low >= factor and (high - low) * max(node.loops, 1.0) >= ROWS_MATTER_MIN and node.loops > 0


def off_by(node: NodeRun) -> str:
    """Estimate and truth in words."""
    return f"{node.node_type} on {node.relation or node.index or 'its input'}: {node.rows_estimated:,.0f} rows expected, {node.rows_actual:,.0f} came"


def confidence_of(trial: FactorTried | None) -> Confidence:
    """Confirmed where swapping it flips the plan both ways in the twin."""
    return Confidence.CONFIRMED if trial and trial.forward and trial.backward else Confidence.LIKELY


def trial_facts(trial: FactorTried) -> tuple[str, ...]:
    """What the twin showed, in words."""
    what = ", ".join(trial.subjects) or trial.kind
    facts = []
    if trial.forward is not None:
        cost = f" (cost {trial.cost_forward:,.0f})" if trial.cost_forward is not None else ""
        facts.append(f"the planner of then with {what} of now {'plans as now' if trial.forward else 'still plans as then'}{cost}")
    if trial.backward is not None:
        cost = f" (cost {trial.cost_backward:,.0f})" if trial.cost_backward is not None else ""
        facts.append(f"the planner of now with {what} of then {'plans as then' if trial.backward else 'still plans as now'}{cost}")
    return tuple(facts)


def cause(
    view: View,
    rule: str,
    title: str,
    *,
    facts: tuple[str, ...],
    fix: str,
    disproof: str,
    hypothesis: str = "",
    prevention: str = "",
    share: float = 1.0,
    confidence: Confidence = Confidence.LIKELY,
    actor: str = "database administrator",
    proposals: tuple[Proposal, ...] = (),
    setting: str = "",
) -> Finding:
    """A finding about this query; ``share`` is the part of its time that the cause explains."""
    share = min(1.0, max(0.0, share))
    evidence = view.evidence
    win: dict[str, Any] = {}
    if view.time_ms:
        win["win_back_s"] = Estimate(value=view.time_ms / 1000 * share, n=len(evidence.run.times_ms) if evidence.run else 1, unit="s", source="EXPLAIN ANALYZE")
        win["win_back_per_s"] = view.time_ms / 1000 * share * (evidence.calls_per_s or 0.0)
    return Finding(
        rule=rule,
        confidence=confidence,
        title=title,
        place=Place(query=evidence.text, query_id=evidence.fingerprint, setting=setting),
        share=Estimate(value=share, n=len(evidence.run.times_ms) if evidence.run else 1, unit="share", source="EXPLAIN ANALYZE"),
        evidence=facts,
        hypothesis=hypothesis,
        disproof=disproof,
        fix=fix,
        prevention=prevention,
        actor=actor,
        proposals=proposals,
        **win,
    )


def share_text(view: View, node: NodeRun) -> str:
    """The node's time in words."""
    return f"{node.node_type}{f' on {node.relation}' if node.relation else ''} takes {node.own_ms:,.1f} of {view.time_ms:,.1f} ms ({percent(view.share(node))})"


def quoted_table(name: str) -> tuple[str, str]:
    """(schema, table) of ``schema.table``."""
    schema, _, table = name.rpartition(".")
    return schema.strip('"') or "public", table.strip('"')
