"""``perfloop try``: candidates of code race against the committed state; the winner must beat it once more on fresh rounds.

Each candidate runs in a worktree of its own; the working tree, the index and uncommitted work are never touched. A patch that is kept becomes
a commit on a branch of its own, with a tag on the state before; nothing is merged and nothing is pushed.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from perfloop.errors import PerfloopError, UsageError
from perfloop.host.worktree import commit_of, git, worktree
from perfloop.loop import arms
from perfloop.loop.answers import differing
from perfloop.loop.measure import Meter
from perfloop.loop.prove import announced, hopeless
from perfloop.loop.stored import opened
from perfloop.loop.tries import said, why_not
from perfloop.model.config import Config
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.replies import CandidateResult, TryResult
from perfloop.model.requests import TryRequest
from perfloop.model.run import Window
from perfloop.model.verdict import Decision, Proof, Verdict, VerdictStatus
from perfloop.store.audit import AuditLog
from perfloop.validate.compare import compare, guards_ok
from perfloop.validate.question import Question

#: pairs that every candidate gets in the first heat; each later heat has the better half and twice as many
HEAT_PAIRS = 3
CANDIDATES_MAX = 16


@dataclass
class _Candidate:
    name: str
    folder: Path
    command: str = ""
    patch: Path | None = None
    meter: Meter | None = None
    reason: str = ""
    verdict: Verdict | None = None


def try_code(request: TryRequest, cwd: Path | None) -> Generator[Event, None, TryResult]:
    """Heats by successive halving, then the proof of the winner on rounds that had no part in choosing it."""
    loaded, _ = opened(request.config, cwd)
    config, base = loaded.config, loaded.base_dir
    arms.refuse_unconfigured(config)
    names = [*request.branch, *request.patch, *request.command]
    if not 1 <= len(names) <= CANDIDATES_MAX:
        raise UsageError(
            f"{len(names)} candidates were named", why=f"1 to {CANDIDATES_MAX} are needed", fix="perfloop try --branch NAME, --patch fix.diff or --command '…'"
        )
    against = commit_of(base, request.against)
    audit = AuditLog(user=config.user, environment=str(config.target.environment or "staging"), change_ticket=config.changes.ticket or None)
    operation = audit.begin(operation="code_trial", command=f"try {', '.join(names)}"[:500], resources=tuple(f"code:{name}" for name in names))
    try:
        with ExitStack() as stack:
            old = arms.started(config, stack.enter_context(worktree(base, against)), request.rate_per_s, stack)
            candidates = [*_opened(request, base, against, (cwd or Path.cwd()), stack)]
            results = yield from _raced(request, config, old, candidates, stack)
            kept = results[0] if results and results[0].decision == Decision.KEPT else None
            if kept:
                results[0] = kept.with_(commands=_taken(base, against, next(one for one in candidates if one.name == kept.name)))
    except BaseException as error:
        audit.end(operation, "failure", error_detail=str(error) or type(error).__name__)
        raise
    audit.end(operation, "success", note=f"kept {kept.name}" if kept else "nothing kept; the worktrees are removed")
    return TryResult(ok=bool(kept) or not request.strict, against=against, candidates=tuple(results))


def _opened(request: TryRequest, base: Path, against: str, cwd: Path, stack: ExitStack) -> Generator[_Candidate, None, None]:
    for name in request.branch:
        yield _Candidate(name, stack.enter_context(worktree(base, commit_of(base, name))))
    for name in request.patch:
        path = cwd / name
        if not path.is_file():
            raise UsageError(f"there is no patch {name}", fix="git diff > fix.diff writes one")
        yield _Candidate(name, stack.enter_context(worktree(base, against, path)), patch=path)
    for name in request.command:
        yield _Candidate(name, stack.enter_context(worktree(base, against)), command=name)


def _raced(request: TryRequest, config: Config, old: Meter, candidates: list[_Candidate], stack: ExitStack) -> Generator[Event, None, list[CandidateResult]]:
    yield from arms.warmed(old)
    alive: list[_Candidate] = []
    for one in candidates:
        yield PhaseStarted(phase="start", detail=one.name, left_s=old.left_s)
        try:
            one.meter = arms.started(config, one.folder, request.rate_per_s, stack, one.command)
            one.reason = _wrong(old, one.meter, request.answers)
        except PerfloopError as error:
            one.reason = f"{error.what}: {error.why}"
        if one.reason:
            yield Told(level="warning", text=f"refused: {one.name}: {one.reason}")
        else:
            yield from arms.warmed(_meter(one))
            alive.append(one)
    pairs, seed = HEAT_PAIRS, config.measure.seed
    while len(alive) > 1:
        heats = []
        for one in alive:
            seed += 1000
            one.verdict = yield from _compared(old, one, arms.question_of(config, pairs), seed)
            heats.append((one.verdict.ratio.value if one.verdict.ratio else float("inf"), one))
            yield Told(text=f"heat of {pairs} pairs: {one.name}, {said(one.verdict)}")
        heats.sort(key=lambda heat: heat[0])
        alive, pairs = [one for _, one in heats[: len(heats) // 2]], pairs * 2
    winner = alive[0] if alive else None
    if winner is not None:
        aa: list[Window] = yield from arms.alike(old)
        yield from announced(_meter(winner), winner.name, arms.question_of(config), aa)
        winner.verdict = yield from _compared(old, winner, arms.question_of(config), seed + 5000)
        winner.reason = _wrong(old, _meter(winner), request.answers)
    ordered = sorted(candidates, key=lambda one: one is not winner)
    return [_result(one, one is winner) for one in ordered]


def _compared(old: Meter, one: _Candidate, question: Question, seed: int) -> Generator[Event, None, Verdict]:
    return compare((yield from arms.interleaved(old, _meter(one), question, seed, give_up=hopeless)), question, Proof.TOGGLED)


def _meter(one: _Candidate) -> Meter:
    assert one.meter is not None
    return one.meter


def _wrong(old: Meter, new: Meter, rule: str) -> str:
    """How the answers differ; faster but wrong is refused."""
    found = [text for text in differing(old, new) if rule == "body" or ": status " in text]
    return f"its answers differ: {found[0]}" if found else ""


def _result(one: _Candidate, won: bool) -> CandidateResult:
    verdict = one.verdict
    if one.reason:
        return CandidateResult(name=one.name, decision=Decision.REFUSED, verdict=verdict, reason=one.reason)
    if won and verdict and verdict.status == VerdictStatus.IMPROVED and guards_ok(verdict):
        return CandidateResult(name=one.name, decision=Decision.KEPT, verdict=verdict, reason="proved on fresh rounds")
    reason = why_not(verdict) if won and verdict else f"another candidate was better in a heat{': ' + said(verdict) if verdict else ''}"
    return CandidateResult(name=one.name, decision=Decision.UNDONE, verdict=verdict, reason=reason)


def _taken(base: Path, against: str, one: _Candidate) -> tuple[str, ...]:
    """A patch becomes a commit on a branch of its own; a branch and a command are already somewhere. Returns what to type next, and what takes it back."""
    if one.patch is None:
        return (f"git merge {one.name}",) if not one.command else (f"start it with: {one.command}",)
    name = f"try-{sha256(one.patch.read_bytes()).hexdigest()[:10]}"
    identity = ("-c", "user.name=perfloop", "-c", "user.email=perfloop@localhost", "-c", "commit.gpgsign=false")
    git(one.folder, *identity, "commit", "--quiet", "--no-verify", "-m", f"{one.patch.name}: proved by perfloop try")
    git(base, "tag", "--force", f"perfloop/before-{name}", against)
    git(base, "branch", "--force", f"perfloop/{name}", git(one.folder, "rev-parse", "HEAD"))
    return (f"git merge perfloop/{name}", f"git branch -D perfloop/{name}; git tag -d perfloop/before-{name}   # takes it back")
