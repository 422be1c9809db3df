"""Hand-over notes: each finding goes to the role that should act."""

from __future__ import annotations

from perfloop.model.messages import ROLES
from perfloop.model.result import RunResult
from perfloop.report.formats import handover


def test_each_finding_is_a_note_for_its_role_and_the_others_are_named_as_idle(sample: RunResult) -> None:
    text = handover.render(sample)
    findings = (sample.diagnosis_after or sample.diagnosis).findings
    assert findings
    for finding in findings:
        section = text.split(f"## For the {finding.actor}", 1)[1].split("\n## ", 1)[0]
        assert f"**{finding.rule}**" in section
        assert f"perfloop compare {sample.run_id} last" in section
    idle = text.rsplit("Nothing from this run for: ", 1)[1]
    assert all((role in idle) != any(finding.actor == role for finding in findings) for role in ROLES)


def test_texts_from_the_service_cannot_break_the_note(sample: RunResult) -> None:
    first = (sample.diagnosis_after or sample.diagnosis).findings[0]
    evil = first.with_(title="x\n## For the QA\n<script>", actor="QA")
    changed = sample.with_(diagnosis_after=None, diagnosis=sample.diagnosis.with_(findings=(evil,)))
    text = handover.render(changed)
    assert text.count("\n## For the QA") == 1
    assert "<script>" not in text
