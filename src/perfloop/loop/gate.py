"""``perfloop gate``: two states of the code started side by side, measured interleaved, judged with budgets."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

from perfloop.host.worktree import commit_of, worktree
from perfloop.loop import arms
from perfloop.loop.answers import differing
from perfloop.loop.measure import Meter
from perfloop.loop.prove import announced
from perfloop.loop.queries import counted
from perfloop.loop.stored import opened
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.replies import GateResult
from perfloop.model.requests import GateRequest
from perfloop.model.verdict import Proof, VerdictStatus
from perfloop.validate.budgets import check_budgets
from perfloop.validate.compare import compare, guards_ok


def gate(request: GateRequest, cwd: Path | None) -> Generator[Event, None, GateResult]:
    """Both states are started, warmed up and measured in randomised pairs; nothing of the working tree is touched."""
    loaded, _ = opened(request.config, cwd)
    config, base = loaded.config, loaded.base_dir
    arms.refuse_unconfigured(config)
    against = commit_of(base, request.against)
    candidate = commit_of(base, request.candidate) if request.candidate else ""
    with ExitStack() as stack:
        folders = {"A": stack.enter_context(worktree(base, against)), "B": stack.enter_context(worktree(base, candidate)) if candidate else base}
        meters: dict[str, Meter] = {}
        for arm, name in (("A", request.against), ("B", request.candidate or "the working tree")):
            yield PhaseStarted(phase="start", detail=f"{name} in {folders[arm]}")
            meters[arm] = arms.started(config, folders[arm], request.rate_per_s, stack)
        return (yield from _measured(request, meters["A"], meters["B"], against, candidate, base))


def _measured(request: GateRequest, old: Meter, new: Meter, against: str, candidate: str, base: Path) -> Generator[Event, None, GateResult]:
    question = arms.question_of(new.config)
    for meter in (old, new):
        yield from arms.warmed(meter)
    aa = yield from arms.alike(old)
    yield from announced(new, f"{request.candidate or 'the working tree'} against {request.against}", question, aa)
    pairs = yield from arms.interleaved(old, new, question, new.config.measure.seed)
    verdict = compare(pairs, question, Proof.TOGGLED)
    queries = yield from counted(new.config.gate.budgets, old, new, base)
    budgets = check_budgets(new.config.gate.budgets, pairs, question, queries)
    answers = differing(old, new)
    for text in answers:
        yield Told(level="warning", text=f"answers differ: {text}")
    slower = verdict.status == VerdictStatus.REGRESSED or not guards_ok(verdict)
    unsure = verdict.status == VerdictStatus.INCONCLUSIVE or any(check.ok is None for check in budgets)
    ok = not slower and all(check.ok is not False for check in budgets) and verdict.status != VerdictStatus.INVALID and not (unsure and request.strict)
    return GateResult(ok=ok, against=against, candidate=candidate, verdict=verdict, budgets=budgets, differing_answers=answers)
