"""Plan changes, and try one: apply under the journal and the watchdog, prove, keep or undo."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import TypeVar

from perfloop.change.base import ChangeContext
from perfloop.context.discover import discover
from perfloop.errors import CannotMeasure, ChangeRefused, PerfloopError, UndoFailed, UsageError
from perfloop.host.http import fetch
from perfloop.host.secrets import resolve
from perfloop.loop import plugins
from perfloop.loop.band import back_in_band
from perfloop.loop.guard import Guard, GuardedChange
from perfloop.loop.prepare import Session
from perfloop.loop.propose import candidates, changes_for, linted
from perfloop.loop.prove import Switch, announced, asked, judged_step, prove
from perfloop.model.base import utc_now
from perfloop.model.change import Change, Plan, Safety
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.finding import Proposal
from perfloop.model.result import Tried
from perfloop.model.verdict import Decision, Verdict, VerdictStatus

_Result = TypeVar("_Result")
#: seconds that one attempt may take at most beside its rounds: build, restarts, undo
ATTEMPT_SPARE_S = 15.0
#: changes after which the service may be another program
NEW_PROGRAM_KINDS = ("code", "code-git", "docker-limits", "kubernetes-resources")


def context_of(session: Session) -> ChangeContext:
    """What change kinds may know: the configuration, its folder, and how to resolve references."""
    return ChangeContext(
        base_dir=session.base_dir,
        config=session.config,
        resolve=lambda reference: resolve(reference, session.base_dir),
        environment=session.policy.environment.value,
    )


def plan(session: Session) -> Generator[Event, None, None]:
    """Turn the last diagnosis into changes; the user's own candidates come last."""
    kinds = plugins.load("change kind")
    diagnosis = session.result.diagnosis_after or session.result.diagnosis
    planned, notes = changes_for(diagnosis.findings, kinds, context_of(session), session.evidence)
    wanted, more = candidates(kinds, context_of(session))
    session.note(*notes, *more)
    session.queue = [pair for pair in [*planned, *((None, change) for change in wanted)] if signature(pair[1]) not in session.seen]
    session.store.save_plan(
        Plan(
            id=f"plan-{session.result.run_id}",
            run_id=session.result.run_id,
            created_at=utc_now(),
            target_url=session.meter.target.url,
            changes=tuple(change for _, change in session.queue),
            expected_gain={change.id: finding.win_back_s for finding, change in session.queue if finding and finding.win_back_s},
        )
    )
    for finding, change in session.queue:
        gain = f", expected to win back {finding.win_back_s.value * 1000:.0f} ms a request" if finding and finding.win_back_s else ""
        yield Told(text=f"plan: {change.title} [{change.safety.value}]{gain}")


def planned(session: Session, proposals: Sequence[Proposal]) -> list[Change]:
    """The changes that carry these out; what cannot be planned is told as refused. Raises the refusal where nothing else is left."""
    kinds, context = plugins.load("change kind"), context_of(session)
    changes: list[Change] = []
    refused: PerfloopError | None = None
    for proposal in proposals:
        try:
            change = linted(kinds[proposal.kind].plan(proposal, context))
        except (ChangeRefused, UsageError) as error:
            refused = error
            session.note(f"not tried: {proposal.kind} {proposal.params.get('name') or proposal.params.get('key') or ''}: {error.what}")
            continue
        if signature(change) not in {signature(one) for one in changes}:
            changes.append(change)
    if refused and not changes:
        raise refused
    return changes


def next_change(session: Session) -> Change | None:
    """The next change worth trying, or None when nothing safe is left or the budget is spent."""
    measure, limits = session.config.measure, session.config.limits
    need_s = 2 * 2 * (measure.pairs_window_s + measure.settle_s) + ATTEMPT_SPARE_S
    tried = sum(1 for tried in session.result.tried if tried.decision in (Decision.KEPT, Decision.UNDONE))
    while session.queue:
        if tried >= limits.changes_max:
            session.note(f"stopped after limits.changes_max = {limits.changes_max} changes")
            return None
        if session.meter.left_s < need_s:
            session.note(f"the budget of {limits.time_max_s:g} s was spent before {session.queue[0][1].title} could be tried")
            return None
        return session.queue.pop(0)[1]
    return None


def attempt(session: Session, change: Change) -> Generator[Event, None, bool]:
    """Try one change; True where it was kept. A change that may not be applied here is shown."""
    session.seen.add(signature(change))
    refusal = session.policy.refusal(change)
    if change.safety == Safety.SHOW or refusal:
        session.put(tried=(*session.result.tried, Tried(change=change, decision=Decision.SHOWN, reason=refusal or "needs code: shown, not applied")))
        yield Told(text=f"shown, not applied: {change.title}" + (f" ({refusal})" if refusal else ""))
        return False
    question = asked(judged_step(change, session.meter), session.config.measure, session.policy.environment)
    yield from announced(session.meter, change.title, question, session.baseline)
    yield PhaseStarted(phase="change", detail=change.title, left_s=session.meter.left_s)
    guard = Guard(session.journal, session.audit, plugins.load("change kind"), context_of(session), session.config)
    verdict: Verdict | None = None
    try:
        with guard.open(change, run_id=session.result.run_id, target_url=session.meter.target.url) as open_change:
            open_change.apply()
            settled(session, change)
            yield Told(text=f"applied and read back: {change.title}")
            switch = Switch(open_change.toggle_on, open_change.toggle_off, lambda: settled(session, change))
            rounds = prove(session.meter, switch, question, session.result.rate_per_s, seed=1000 * (len(session.seen) + 1))
            verdict = yield from renewing(rounds, open_change)
            open_change.measured(verdict)
            if verdict.status == VerdictStatus.IMPROVED and all(guard_.ok for guard_ in verdict.guards):
                open_change.keep()
                session.put(tried=(*session.result.tried, Tried(change=change, decision=Decision.KEPT, verdict=verdict)))
                yield Told(level="good", text=f"kept: {change.title}, {said(verdict)}")
                return True
            reason = why_not(verdict)
            open_change.undo(reason)
    except UndoFailed as error:
        session.put(
            tried=(*session.result.tried, Tried(change=change, decision=Decision.STUCK, verdict=verdict, reason=error.what)),
            commands=session.result.commands + error.commands,
            ok=False,
        )
        raise
    except ChangeRefused as error:
        session.put(
            tried=(*session.result.tried, Tried(change=change, decision=Decision.REFUSED, reason=f"{error.what}: {error.why}" if error.why else error.what))
        )
        yield Told(level="warning", text=f"refused: {change.title}: {error.what}")
        return False
    settled(session)
    health = _health(session)
    not_back = yield from back_in_band(session.meter, session.baseline, session.result.rate_per_s)
    if not_back:
        health = f"{health}, but not as before: {not_back}"
        open_change.not_back(not_back)
        session.note(f"after the undo of {change.title}: {not_back}")
    session.put(tried=(*session.result.tried, Tried(change=change, decision=Decision.UNDONE, verdict=verdict, reason=reason, health_after_undo=health)))
    yield Told(level="info", text=f"undone: {change.title}: {reason}; the service is {health}")
    return False


def renewing(rounds: Generator[Event, None, _Result], change: GuardedChange) -> Generator[Event, None, _Result]:
    """Passes events on, and with each says to the watchdog that we are alive."""
    while True:
        try:
            event = next(rounds)
        except StopIteration as stop:
            result: _Result = stop.value
            return result
        change.renew()
        yield event


def said(verdict: Verdict) -> str:
    """A verdict in a few words, ratio and absolute together."""
    ratio = verdict.ratio
    if ratio is None or verdict.before is None or verdict.after is None:
        return verdict.status.value
    interval = f" ({ratio.low:.2f}–{ratio.high:.2f})" if ratio.low is not None and ratio.high is not None else ""
    again = f", × {verdict.fresh_ratio.value:.2f} on {verdict.fresh_ratio.n} fresh" if verdict.fresh_ratio else ""
    return f"{verdict.metric} {verdict.before.value * 1000:.0f} → {verdict.after.value * 1000:.0f} ms, × {ratio.value:.2f}{interval} over {verdict.pairs} pairs{again}"


def why_not(verdict: Verdict) -> str:
    """Why a change is not kept."""
    broken = [guard.metric for guard in verdict.guards if not guard.ok]
    if verdict.status == VerdictStatus.IMPROVED and broken:
        return f"it helped, but {', '.join(broken)} got worse"
    return f"not proved to help: {verdict.status.value}, {verdict.reason or said(verdict)}"


def signature(change: Change) -> str:
    """What a change would do, to try nothing twice."""
    return json.dumps([change.kind, change.after, change.resources], sort_keys=True, default=str)


def settled(session: Session, change: Change | None = None) -> None:
    """After a toggle: the service may have a new process, but it must be the same program. ``CannotMeasure``, and so undone, where another one answers."""
    session.meter.target = discover(session.config, session.base_dir)
    was, now = ({one.exe for one in target.processes if one.exe} for target in (session.result.target, session.meter.target))
    if change is not None and change.kind not in NEW_PROGRAM_KINDS and was and now and not was & now:
        raise CannotMeasure(
            f"another program answers on {session.config.target.url}",
            why=f"{sorted(now)[0]}, and it was {sorted(was)[0]}",
            fix="end it, and start the service again",
        )


def _health(session: Session) -> str:
    path = session.config.target.health_path or session.meter.steps[0].paths[0]
    try:
        response = fetch(session.meter.target.url.rstrip("/") + path, headers=session.meter.headers, ca_file=session.config.target.ca_file)
    except PerfloopError as error:
        return f"not healthy: {error.what}"
    return "healthy" if response.status < 400 else f"not healthy: status {response.status}"


__all__ = ["attempt", "context_of", "next_change", "plan", "renewing", "said", "settled", "signature"]
