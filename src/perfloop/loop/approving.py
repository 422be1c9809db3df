"""``perfloop approvals``: which kinds of change may be applied without asking again, by target; and the plan that ``apply`` shows before it asks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from perfloop.change.base import ChangeContext
from perfloop.context.config import load_config
from perfloop.errors import ChangeRefused, UsageError
from perfloop.host.secrets import resolve
from perfloop.loop import plugins
from perfloop.loop.stored import load_plan
from perfloop.model.change import Change, Plan, Safety
from perfloop.model.replies import ApprovalsResult
from perfloop.model.requests import ApplyRequest, ApprovalsRequest
from perfloop.model.target import Environment
from perfloop.store.approvals import Approvals
from perfloop.store.audit import AuditLog


def approvals(request: ApprovalsRequest, cwd: Path | None) -> ApprovalsResult:
    """Gives, revokes or lists; giving and revoking are in the audit log."""
    config = load_config(request.config or None, cwd or Path.cwd()).config
    where = request.environment or config.target.environment or Environment.STAGING
    kept, done = Approvals(), ""
    audit = AuditLog(user=config.user, environment=where.value, change_ticket=config.changes.ticket or None)
    if request.revoke:
        operation = audit.begin(operation="approval_revoked", command=f"perfloop approvals --revoke {request.revoke}")
        try:
            gone = kept.revoke(request.revoke)
        except UsageError as error:
            audit.end(operation, "failure", error_detail=error.what)
            raise
        audit.end(operation, "success", note=f"{gone.kind} on {gone.target_url}")
        done = f"revoked: {gone.kind} on {gone.target_url}"
    elif request.kind:
        url = request.url or config.target.url
        if not url:
            raise UsageError("no target is named", fix="perfloop approvals KIND --url http://…, or target.url in perfloop.toml")
        if request.kind not in plugins.load("change kind"):
            raise UsageError(f"there is no change kind {request.kind!r}", fix="perfloop explain lists them")
        done = _given(kept, audit, request.kind, url, where, request.by or config.changes.approved_by, config.changes.ticket)
    return ApprovalsResult(done=done, approvals=kept.all())


def _given(kept: Approvals, audit: AuditLog, kind: str, url: str, where: Environment, by: str, ticket: str) -> str:
    if not by:
        raise UsageError("nobody is named who approves", fix="perfloop approvals KIND --by NAME, or changes.approved_by")
    operation = audit.begin(operation="approval_given", command=f"perfloop approvals {kind} --url {url}", resources=(f"service:{url}",), note=f"by {by}")
    kept.give(url, kind, where.value, by, ticket)
    audit.end(operation, "success", note=f"by {by}")
    return f"approved by {by}: {kind} on {url} ({where})"


def remember(plan: Plan, request: ApplyRequest, cwd: Path | None, by: str) -> None:
    """Approves the kinds of a plan for its target from now on."""
    for kind in sorted({change.kind for change in plan.changes if change.safety != Safety.SHOW}):
        approvals(ApprovalsRequest(config=request.config, kind=kind, url=plan.target_url, by=by), cwd)


def planned(request: ApplyRequest, cwd: Path | None) -> Plan:
    """The plan that would be applied; ``ChangeRefused`` where a live value has moved since it was made."""
    loaded = load_config(request.config or None, cwd or Path.cwd())
    plan = load_plan(request.plan, cwd, request.config)
    context = ChangeContext(
        base_dir=loaded.base_dir,
        config=loaded.config,
        resolve=lambda reference: resolve(reference, loaded.base_dir),
        environment=(loaded.config.target.environment or Environment.STAGING).value,
    )
    refuse_moved(plan.changes, plugins.load("change kind"), context)
    return plan


def refuse_moved(changes: tuple[Change, ...], kinds: dict[str, ModuleType], context: ChangeContext) -> None:
    """``ChangeRefused`` names each change whose live value is not the one that the plan was made for."""
    known = [change for change in changes if change.safety != Safety.SHOW and change.kind in kinds]
    live = {change.id: kinds[change.kind].read(change, context) for change in known}
    moved = [f"{change.title}: it was {change.before}, and is {live[change.id]}" for change in known if live[change.id] != change.before]
    if moved:
        raise ChangeRefused("the plan is out of date, nothing was applied", why="; ".join(moved), fix="make a new one: perfloop plan")
