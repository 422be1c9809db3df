"""The fixes of one query's causes: tried in the planner twin, or applied under the journal, measured in pairs of rounds, kept or undone."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from types import ModuleType

from perfloop.change.base import ChangeContext
from perfloop.context.config import LoadedConfig
from perfloop.context.limits import policy
from perfloop.errors import CannotMeasure, ChangeRefused, PerfloopError, UndoFailed, UsageError
from perfloop.host.secrets import resolve
from perfloop.loop import plugins
from perfloop.loop.guard import Guard, GuardedChange
from perfloop.loop.propose import linted
from perfloop.loop.recover import recover
from perfloop.model.change import Change
from perfloop.model.config import Config
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.finding import Finding, Proposal
from perfloop.model.query import FixTried, QueryEvidence
from perfloop.model.target import Environment
from perfloop.model.verdict import Decision, Proof, VerdictStatus
from perfloop.sql.connect import address_of, connect_readonly, readonly_transaction
from perfloop.sql.explain import explain, plan_of
from perfloop.store.audit import AuditLog
from perfloop.store.journal import Journal
from perfloop.twin.whatif import shape, what_if
from perfloop.validate.timings import compare_times

PAIRS = 3
RUNS = 5
RUNS_ONCE = 8  # before and after only
ROUND_MAX_S = 10.0
TOGGLE_MAX_S = 20.0  # a change that takes longer to make is not switched on and off


@dataclass
class Query:
    """What is needed to run the query again."""

    text: str = field(repr=False)
    values: tuple[str, ...] = field(repr=False)
    dsn: str = field(repr=False)
    any_role: bool
    evidence: QueryEvidence

    def times(self, runs: int) -> list[float]:
        """Milliseconds of so many executions in a new session, after one to warm up; at most 10 s in all."""
        found: list[float] = []
        until = time.monotonic() + ROUND_MAX_S
        with connect_readonly(self.dsn, any_role=self.any_role) as connection:
            for number in range(runs + 1):
                left_ms = int(max(0.1, until - time.monotonic()) * 1000)
                with readonly_transaction(connection):
                    connection.execute(f"SET LOCAL statement_timeout = {left_ms}".encode())
                    plan = plan_of(connection, f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {self.text}", self.values)
                if number:
                    found.append(float(plan["Execution Time"]))
                if time.monotonic() > until and len(found) >= 1:
                    break
        return found


def fixes(
    loaded: LoadedConfig, environment: Environment, query: Query, causes: tuple[Finding, ...], *, apply: bool, yes: bool, run_id: str
) -> Generator[Event, None, tuple[FixTried, ...]]:
    """Without ``apply``: the first cause's fix tried in the twin. With it: the causes' fixes in order, until one is kept."""
    proposals = [(finding, proposal) for finding in causes for proposal in finding.proposals]
    if not apply:
        return tuple(tried for tried in [_in_twin(query, finding, proposal) for finding, proposal in proposals[:2]] if tried)
    config = loaded.config.with_(changes=loaded.config.changes.with_(allow="ask")) if yes else loaded.config
    context = ChangeContext(
        base_dir=loaded.base_dir, config=config, resolve=lambda reference: resolve(reference, loaded.base_dir), environment=environment.value
    )
    journal, audit = Journal(), AuditLog(user=config.user, environment=environment.value, change_ticket=config.changes.ticket or None)
    url = f"postgresql://{address_of(query.dsn)}"
    for line in recover(url, journal=journal, audit=audit, incidents=config.incidents):
        yield Told(level="warning", text=line)
    kinds = plugins.load("change kind")
    guard = Guard(journal, audit, kinds, context, config)
    done: list[FixTried] = []
    for finding, proposal in proposals[:3]:
        tried = yield from _attempt(guard, config, environment, query, finding, proposal, url, run_id)
        done.append(tried)
        if tried.decision == Decision.KEPT:
            break
    return tuple(done)


def _attempt(
    guard: Guard, config: Config, environment: Environment, query: Query, finding: Finding, proposal: Proposal, url: str, run_id: str
) -> Generator[Event, None, FixTried]:
    """Plan, apply, prove, keep or undo one fix; what may not be applied here is shown."""
    kind = guard.kinds.get(proposal.kind)
    if proposal.kind == "code" or kind is None:
        return FixTried(title=proposal.title, statement=finding.fix, decision=Decision.SHOWN, reason="it is a change of the application's code")
    try:
        change: Change = _planned(kind, proposal, guard.context).with_(finding=finding.rule)
    except PerfloopError as error:
        return FixTried(
            title=proposal.title, statement=finding.fix, decision=Decision.REFUSED, reason=f"{error.what}: {error.why}" if error.why else error.what
        )
    refusal = policy(config, environment).refusal(change)
    if refusal:
        return FixTried(change=change, title=change.title, statement=change.diff, decision=Decision.SHOWN, reason=refusal)
    yield PhaseStarted(phase="fix", detail=change.title)
    try:
        with guard.open(change, run_id=run_id, target_url=url) as opened:
            return (yield from _prove(opened, change, query, config))
    except UndoFailed:
        raise
    except ChangeRefused as error:
        return FixTried(
            change=change,
            title=change.title,
            statement=change.diff,
            decision=Decision.REFUSED,
            reason=f"{error.what}: {error.why}" if error.why else error.what,
        )


def _planned(kind: ModuleType, proposal: Proposal, context: ChangeContext) -> Change:
    if not context.config.target.postgres_admin and not proposal.params.get("dsn_ref"):
        raise UsageError(
            "no role may change the database", why="target.postgres_admin is not configured", fix='target.postgres_admin = "env:NAME" in perfloop.toml'
        )
    params = {**proposal.params, "dsn_ref": context.config.target.postgres_admin}
    return linted(kind.plan(proposal.with_(params=params), context))


def _prove(opened: GuardedChange, change: Change, query: Query, config: Config) -> Generator[Event, None, FixTried]:
    """On and off in pairs where the change can be toggled fast, else before and after."""
    before = query.times(RUNS_ONCE)
    started = time.monotonic()
    opened.apply()
    took_s = time.monotonic() - started
    yield Told(text=f"applied and read back in {took_s:.1f} s: {change.title}")
    after = query.times(RUNS_ONCE)
    opened.renew()
    measure = config.measure
    toggles = change.params.get("toggles", change.kind == "postgres-index") and took_s <= TOGGLE_MAX_S
    if not toggles:
        verdict = compare_times([(before, after)], proof=Proof.BEFORE_AFTER, effect_min=measure.effect_min, confidence=measure.confidence)
    else:
        pairs = [(before, after)]
        while len(pairs) < PAIRS:
            opened.toggle_off()
            off = query.times(RUNS)
            opened.renew()
            opened.toggle_on()
            on = query.times(RUNS)
            opened.renew()
            pairs.append((off, on))
            yield Told(text=f"pair {len(pairs)}: {sorted(off)[len(off) // 2]:.2f} ms without, {sorted(on)[len(on) // 2]:.2f} ms with")
        verdict = compare_times(pairs, proof=Proof.TOGGLED, effect_min=measure.effect_min, confidence=measure.confidence)
    opened.measured(verdict)
    base = FixTried(change=change, title=change.title, statement=change.diff, verdict=verdict)
    if verdict.status == VerdictStatus.IMPROVED:
        opened.keep()
        yield Told(level="good", text=f"kept: {change.title}")
        return base.with_(decision=Decision.KEPT, reason=_plan_again(query))  # type: ignore[no-any-return]
    reason = f"not proved to help: {verdict.status.value}, {verdict.reason}"
    opened.undo(reason)
    yield Told(text=f"undone: {change.title}: {reason}")
    return base.with_(decision=Decision.UNDONE, reason=reason)  # type: ignore[no-any-return]


def _plan_again(query: Query) -> str:
    """Whether the target plans it again as it did then."""
    if not query.evidence.plan_then:
        return ""
    with connect_readonly(query.dsn, any_role=query.any_role) as connection:
        plan, _ = explain(connection, query.text, query.values)
    return (
        "the target plans it again as it did then"
        if shape(plan["Plan"]) == shape(query.evidence.plan_then)
        else "the target's plan is now another one than then"
    )


def _in_twin(query: Query, finding: Finding, proposal: Proposal) -> FixTried | None:
    """What the planner makes of it: an index by a what-if, statistics and settings by the bisect's own trial."""
    evidence = query.evidence
    base = FixTried(title=proposal.title, statement=finding.fix, cost_before=evidence.cost_now)
    trial = next((one for one in evidence.trials if one.backward and one.cost_backward is not None), None)
    if finding.confidence == "confirmed" and trial is not None:
        return base.with_(cost_after=trial.cost_backward, reason=f"now's planner with {', '.join(trial.subjects)} as it was then")  # type: ignore[no-any-return]
    ddl = _ddl(proposal)
    if not ddl:
        return None
    try:
        with connect_readonly(query.dsn, any_role=query.any_role) as connection:
            found = what_if(connection, query.text, [ddl])
    except (CannotMeasure, UsageError) as error:
        return base.with_(cost_before=None, reason=f"not tried in the twin: {error.what}")  # type: ignore[no-any-return]
    size = f"about {found.index_bytes / 2**20:,.1f} MiB"
    return base.with_(cost_before=found.cost_before, cost_after=found.cost_after, reason=size if found.exact else f"{size}; the twin is not exact here")  # type: ignore[no-any-return]


def _ddl(proposal: Proposal) -> str:
    params = proposal.params
    if proposal.kind == "postgres-index-definition":
        return str(params["definition"])
    if proposal.kind == "postgres-index":
        columns = [(column, "asc") if isinstance(column, str) else column for column in params["columns"]]
        text = ", ".join(f'"{name}"{" DESC" if way == "desc" else ""}' for name, way in columns)
        return f'CREATE INDEX ON "{params["schema"]}"."{params["table"]}" ({text})'
    return ""
