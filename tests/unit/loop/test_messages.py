"""The context request of other agents, and what they state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfloop import api
from perfloop.errors import UsageError
from perfloop.model.requests import ContextRequest
from perfloop.model.result import RunResult

REQUEST = {
    "requesting_agent": "performance-engineer",
    "request_type": "get_performance_context",
    "payload": {"query": "Performance context needed: SLAs, current metrics, architecture, load patterns, pain points, and scalability requirements."},
}


def written(folder: Path, name: str, what: object) -> str:
    (folder / name).write_text(json.dumps(what))
    return str(folder / name)


def test_the_request_of_the_format_is_answered_from_the_last_run(project: Path, stored: RunResult) -> None:
    answer = api.context(ContextRequest(request=written(project, "request.json", REQUEST)), project)
    assert answer.run_id == stored.run_id
    assert answer.current_metrics["all requests"]["p95_s"] == (stored.after or stored.before).total.p95_s.value
    assert answer.pain_points[0]["rule"] == "n-plus-one"
    assert answer.scalability_requirements["rate_max_per_s"] == 131


def test_what_nobody_knows_is_named_and_not_guessed(project: Path) -> None:
    answer = api.context(ContextRequest(), project)
    assert answer.current_metrics == {}
    assert any(text.startswith("current_metrics: nothing was measured") for text in answer.unknown)
    assert any(text.startswith("slas: none") for text in answer.unknown)


def test_what_another_agent_states_is_kept_with_its_source_and_apart_from_what_was_measured(project: Path, stored: RunResult) -> None:
    first = written(project, "dba.json", {"source": "database-administrator", "pain_points": ["vacuum runs at noon"], "current_metrics": {"p95_ms": 1}})
    api.context(ContextRequest(state=first), project)
    again = written(project, "dba.json", {"source": "database-administrator", "pain_points": ["vacuum runs at one"]})
    answer = api.context(ContextRequest(state=again), project)
    assert [(one.source, one.pain_points) for one in answer.stated] == [("database-administrator", ("vacuum runs at one",))]
    assert "p95_ms" not in json.dumps(answer.current_metrics)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"request_type": "get_performance_context"}, "requesting_agent"),
        ({**REQUEST, "request_type": "drop_tables"}, "request_type"),
        ({**REQUEST, "more": 1}, "more"),
        ([], "the text"),
    ],
)
def test_a_request_of_another_form_is_refused_by_name(project: Path, what: object, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        api.context(ContextRequest(request=written(project, "request.json", what)), project)
    assert says in refused.value.why
    with pytest.raises(UsageError, match="cannot be read"):
        api.context(ContextRequest(state=str(project / "nowhere.json")), project)
