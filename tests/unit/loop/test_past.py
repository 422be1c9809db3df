"""History and claims over a real store of runs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from perfloop import api
from perfloop.model.requests import HistoryRequest, VerifyClaimsRequest
from perfloop.model.result import RunResult
from perfloop.store.runs import RunStore


@pytest.fixture
def runs(project: Path, sample: RunResult) -> list[str]:
    """Thirty checks of one service; its p95 rises by a fifth with the commit of run 18."""
    luck, store, made = random.Random(4), RunStore(project), []
    assert sample.before
    for number in range(30):
        factor = (1.2 if number >= 18 else 1.0) * luck.gauss(1, 0.02)
        p95 = sample.before.total.p95_s
        assert p95
        before = sample.before.with_(total=sample.before.total.with_(p95_s=p95.with_(value=p95.value * factor)))
        run_id = store.create("check")
        target = sample.target.with_(git_revision=f"{number:040x}")
        store.save_result(sample.with_(run_id=run_id, kind="check", before=before, after=None, target=target, started_at=f"2026-01-{number + 1:02d}T00:00:00Z"))
        made.append(run_id)
    return made


def test_history_names_the_commits_between_which_a_figure_moved(runs):
    result = api.history(HistoryRequest())
    p95 = next(one for one in result.series if one.metric == "p95 of all requests")
    (change,) = p95.changes
    assert change.worse
    assert change.ratio == pytest.approx(1.2, abs=0.04)
    assert change.after_run.revision < f"{18:040x}" <= change.by_run.revision
    assert change.at.run_id == runs[18]
    assert result.next == f"perfloop gate --against {change.after_run.revision[:12]} --candidate {change.by_run.revision[:12]}"
    assert result.ok
    assert not api.history(HistoryRequest(strict=True)).ok
    assert all(not one.changes for one in result.series if one.metric == "p50 of all requests")


def test_history_of_few_runs_says_so(stored):
    result = api.history(HistoryRequest())
    assert result.runs == 1
    assert "from 12 on" in result.notes[0]


def test_history_of_nothing_says_what_to_do(project):
    result = api.history(HistoryRequest())
    assert not result.series
    assert result.next == "perfloop check URL"


def test_claims_are_checked_against_the_run_that_the_text_names(stored, project):
    text = project / "pr.md"
    text.write_text(f"Run {stored.run_id}: {stored.delivery_notice}\nMemory use fell by 33%.\n")
    result = api.verify_claims(VerifyClaimsRequest(file="pr.md"))
    assert result.runs == (stored.run_id,)
    assert [claim.state for claim in result.claims if claim.line == 1] == ["supported"] * 6
    assert [claim.state for claim in result.claims if claim.line == 2] == ["without evidence"]
    assert not result.ok
    text.write_text("Run 20200101-000000-check-aaaa: p95 is 333 ms.")
    unknown = api.verify_claims(VerifyClaimsRequest(file="pr.md"))
    assert [claim.state for claim in unknown.claims] == ["without evidence"]
