"""``perfloop try --set FILE:KEY=VALUE``, ``--sql STATEMENT`` and ``--tune PRODUCT``: candidates on the running service, under journal and watchdog."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from perfloop.change.statements import proposals_of
from perfloop.errors import UsageError
from perfloop.loop import engineer, opening, tries, tuning
from perfloop.loop.prepare import Session
from perfloop.model.change import Change
from perfloop.model.event import Event
from perfloop.model.finding import Proposal
from perfloop.model.replies import CandidateResult, TryResult
from perfloop.model.requests import ImproveRequest, TryRequest
from perfloop.model.verdict import Decision

KIND = "config-file"


def try_settings(request: TryRequest, cwd: Path | None) -> Generator[Event, None, TryResult]:
    """What is named is planned before anything is sent; one candidate is proved at once, of several the winner of a race."""
    if request.branch or request.patch or request.command:
        raise UsageError(
            "settings cannot be mixed with candidates of code", why="settings are tried on the running service, code beside it", fix="call perfloop try twice"
        )
    wanted = [Proposal(kind=KIND, title="", params=_read(text)) for text in request.set] + list(proposals_of(request.sql))
    asked = ImproveRequest(config=request.config, rate_per_s=request.rate_per_s, yes=request.yes, no_throughput=True, no_input=True)
    session = opening.open_session(asked, "improve", cwd)
    tries.planned(session, wanted)  # what cannot be, is refused before anything is sent

    def proposals(session: Session) -> list[Proposal]:
        return [*wanted, *(one for product in request.tune for one in tuning.proposals(product, session.result.target, tries.context_of(session)))]

    result = yield from opening.run(session, engineer.race(session, proposals, request.trials), "")
    found = [
        CandidateResult(
            name=tried.change.title, decision=tried.decision, verdict=tried.verdict, reason=tried.reason, commands=_undo(tried.change, tried.decision)
        )
        for tried in result.tried
    ]
    found.sort(key=lambda one: one.decision != Decision.KEPT)
    kept = any(one.decision == Decision.KEPT for one in found)
    return TryResult(ok=result.ok and (kept or not request.strict), against="the settings as they were", candidates=tuple(found), notes=result.notes)


def _read(text: str) -> dict[str, str]:
    """FILE:KEY=VALUE; the value is read in the type of the old one."""
    file, colon, rest = text.partition(":")
    key, equals, value = rest.partition("=")
    if not (file and colon and key and equals):
        raise UsageError(f"{text[:80]!r} is no setting", why="FILE:KEY=VALUE is needed", fix="perfloop try --set app.toml:pool.size=20")
    return {"file": file, "key": key, "value": value}


def _undo(change: Change, decision: Decision) -> tuple[str, ...]:
    return (f"perfloop rollback {change.id}   # takes it back",) if decision == Decision.KEPT else ()
