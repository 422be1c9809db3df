"""From findings and the user's candidates to changes: which kind, which setting, which value."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from perfloop.change.base import ChangeContext
from perfloop.change.ddl_lint import lint
from perfloop.errors import ChangeRefused, PerfloopError
from perfloop.model.change import Change
from perfloop.model.config import Config, SettingConfig
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Confidence, Finding, Proposal

#: A setting that is too small is raised by this factor, within its configured bounds. The proof decides, not the formula:
#: the best size follows from hold time and arrival rate, which the shortage itself hides (research: HikariCP, "About Pool Sizing").
INCREASE_FACTOR = 4


def changes_for(
    findings: Iterable[Finding], kinds: dict[str, ModuleType], context: ChangeContext, evidence: Evidence
) -> tuple[list[tuple[Finding, Change]], list[str]]:
    """The changes that answer these findings, in their order, and what could not be planned and why. ``possible`` findings are shown, not changed."""
    planned: list[tuple[Finding, Change]] = []
    notes: list[str] = []
    for finding in findings:
        if finding.confidence == Confidence.POSSIBLE:
            continue
        for proposal in finding.proposals:
            try:
                concrete = _concrete(proposal, finding, context, evidence)
                if concrete is None:
                    notes.append(f'{finding.rule}: no setting in the configuration answers it ([[target.settings]] with answers = ["{finding.rule}"])')
                    continue
                kind = kinds.get(concrete.kind)
                if kind is None:
                    notes.append(f"{finding.rule}: no change kind {concrete.kind} is installed")
                    continue
                change: Change = kind.plan(concrete, context)
                planned.append((finding, linted(change).with_(finding=finding.rule, steps=finding.steps)))
            except PerfloopError as error:
                notes.append(f"{finding.rule}: {error.what}" + (f" ({error.why})" if error.why else ""))
    return planned, notes


def linted(change: Change) -> Change:
    """The change with what a migration linter says of its DDL, where it is one on PostgreSQL."""
    if not change.kind.startswith("postgres-"):
        return change
    said = tuple(str(one) for one in lint(str(change.params.get("command", ""))))
    more: Change = change.with_(lint=(*change.lint, *said))
    return more


def candidates(kinds: dict[str, ModuleType], context: ChangeContext) -> tuple[list[Change], list[str]]:
    """The changes that the user wants tried, from the configuration."""
    planned: list[Change] = []
    notes: list[str] = []
    for candidate in context.config.candidates:
        params = {"setting": candidate.setting, "value": candidate.value} if candidate.setting else candidate.params
        try:
            if candidate.kind not in kinds:
                raise ChangeRefused(f"no change kind {candidate.kind!r} is installed", why=f"there are {', '.join(sorted(kinds))}")
            change: Change = kinds[candidate.kind].plan(Proposal(kind=candidate.kind, title=candidate.title, params=params), context)
            planned.append(change.with_(steps=(candidate.step,) if candidate.step else ()))
        except PerfloopError as error:
            notes.append(f"{candidate.title}: {error.what}" + (f" ({error.why})" if error.why else ""))
    return planned, notes


def _concrete(proposal: Proposal, finding: Finding, context: ChangeContext, evidence: Evidence) -> Proposal | None:
    """The proposal with the references that only the configuration knows filled in; None where nothing there answers it."""
    if proposal.kind == "postgres-index":
        index: Proposal = proposal.with_(params={**proposal.params, "dsn_ref": context.config.target.postgres_admin})
        return index
    if proposal.kind != "app-setting" or "setting" in proposal.params:
        return proposal
    setting = setting_for(finding.rule, context.config)
    if setting is None:
        return None
    headroom = min((p.max_connections for p in evidence.postgres if p.max_connections), default=None)
    concrete: Proposal = proposal.with_(params={"setting": setting.id, "factor": INCREASE_FACTOR, **_cap(setting, headroom)})
    return concrete


def _cap(setting: SettingConfig, headroom: int | None) -> dict[str, Any]:
    """The highest value allowed: the configured maximum, and no more than half of what the database accepts in all."""
    bounds = [bound for bound in (setting.max, headroom / 2 if headroom else None) if bound is not None]
    return {"max": min(bounds)} if bounds else {}


def setting_for(rule: str, config: Config) -> SettingConfig | None:
    """The configured setting that answers a rule."""
    return next((setting for setting in config.target.settings if rule in setting.answers), None)
