"""``perfloop try --set FILE:KEY=VALUE``: candidates of configuration, each under journal and watchdog, toggled, and kept or undone."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from perfloop.errors import UsageError
from perfloop.loop import engineer, opening, plugins
from perfloop.loop.tries import context_of
from perfloop.model.base import utc_now
from perfloop.model.change import Change, Plan
from perfloop.model.event import Event
from perfloop.model.finding import Proposal
from perfloop.model.replies import CandidateResult, TryResult
from perfloop.model.requests import ImproveRequest, TryRequest
from perfloop.model.verdict import Decision

KIND = "config-file"


def try_settings(request: TryRequest, cwd: Path | None) -> Generator[Event, None, TryResult]:
    """Each setting is planned before anything is sent, then tried on the running service in the order given; the ones that help stay."""
    if request.branch or request.patch or request.command:
        raise UsageError(
            "--set cannot be mixed with candidates of code", why="settings are tried on the running service, code beside it", fix="call perfloop try twice"
        )
    wanted = [_read(text) for text in request.set]
    asked = ImproveRequest(config=request.config, rate_per_s=request.rate_per_s, yes=request.yes, no_throughput=True, no_input=True)
    session = opening.open_session(asked, "improve", cwd)
    kind, context = plugins.load("change kind")[KIND], context_of(session)
    changes: list[Change] = [kind.plan(Proposal(kind=KIND, title="", params=params), context) for params in wanted]
    plan = Plan(
        id=f"plan-{session.result.run_id}", run_id=session.result.run_id, created_at=utc_now(), target_url=session.config.target.url, changes=tuple(changes)
    )
    result = yield from opening.run(session, engineer.apply(session, plan), "")
    found = [
        CandidateResult(
            name=tried.change.title, decision=tried.decision, verdict=tried.verdict, reason=tried.reason, commands=_undo(tried.change, tried.decision)
        )
        for tried in result.tried
    ]
    done = {tried.change.id for tried in result.tried}
    found += [CandidateResult(name=one.title, decision=Decision.FAILED, reason="not tried: the budget was spent") for one in changes if one.id not in done]
    found.sort(key=lambda one: one.decision != Decision.KEPT)
    kept = any(one.decision == Decision.KEPT for one in found)
    return TryResult(ok=result.ok and (kept or not request.strict), against="the settings as they were", candidates=tuple(found))


def _read(text: str) -> dict[str, str]:
    """FILE:KEY=VALUE; the value is read in the type of the old one."""
    file, colon, rest = text.partition(":")
    key, equals, value = rest.partition("=")
    if not (file and colon and key and equals):
        raise UsageError(f"{text[:80]!r} is no setting", why="FILE:KEY=VALUE is needed", fix="perfloop try --set app.toml:pool.size=20")
    return {"file": file, "key": key, "value": value}


def _undo(change: Change, decision: Decision) -> tuple[str, ...]:
    return (f"perfloop rollback {change.id}   # takes it back",) if decision == Decision.KEPT else ()
