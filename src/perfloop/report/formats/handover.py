"""Hand-over notes in Markdown: each role gets the findings that it should act on, with place, evidence, fix, and how to check that it worked."""

from __future__ import annotations

from perfloop.model.finding import Finding
from perfloop.model.messages import ROLES
from perfloop.model.result import RunResult
from perfloop.report.formats.markdown import code, escape
from perfloop.report.headline import gain_text, headline, place_text

ID = "handover"
EXTENSION = "handover.md"


def render(result: RunResult) -> str:
    """One section for each role that has something to do; those that have nothing are named at the end."""
    findings = (result.diagnosis_after or result.diagnosis).findings
    lines = [f"# Hand-over of run {result.run_id}", "", escape(headline(result)), ""]
    for role, field in ROLES.items():
        mine = [finding for finding in findings if finding.actor == role]
        if mine:
            lines += [f"## For the {role}", "", f"You are asked because of: {field}.", ""]
            for number, finding in enumerate(mine, 1):
                lines += _note(number, finding, result)
    idle = [role for role in ROLES if not any(finding.actor == role for finding in findings)]
    lines += [f"Nothing from this run for: {', '.join(idle)}."] if idle else []
    return "\n".join(lines).rstrip() + "\n"


def _note(number: int, finding: Finding, result: RunResult) -> list[str]:
    place = place_text(finding.place)
    facts = [
        f"where: {code(place)}" if place else "",
        f"gain: {escape(gain_text(finding))}" if gain_text(finding) else "",
        *(f"evidence: {escape(text)}" for text in finding.evidence),
        f"do: {escape(finding.fix)}" if finding.fix else "",
        f"it would be wrong if: {escape(finding.disproof)}" if finding.disproof else "",
        f"so that it stays away: {escape(finding.prevention)}" if finding.prevention else "",
        f"check: {code(f'perfloop check {result.target.url}')}, then {code(f'perfloop compare {result.run_id} last')}",
    ]
    return [f"{number}. **{finding.rule}** ({finding.confidence}): {escape(finding.title)}", *(f"   - {fact}" for fact in facts if fact), ""]
