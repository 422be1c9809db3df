from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib import import_module
from xml.etree import ElementTree as ET

import pytest

from perfloop.model.evidence import Unavailable
from perfloop.model.result import RunResult, SloCheck
from perfloop.model.target import Environment, Target
from perfloop.report.formats import BUILTIN, html, json_format, junit, markdown, terminal

EMPTY = RunResult(
    kind="check",
    run_id="r1",
    started_at="2026-01-05T10:00:00Z",
    target=Target(name="", url="http://127.0.0.1:1", host="127.0.0.1", port=1, local=True, environment=Environment.STAGING),
)
STATES = [
    {},
    {"state": "failed", "notes": ("the service refused the connection",), "ok": False},
    {"state": "interrupted", "kind": "improve"},
    {"state": "done", "unavailable": (Unavailable(probe="py-spy", reason="ptrace is not permitted", fix="docker run --cap-add SYS_PTRACE"),)},
    {"state": "done", "slo_checks": (SloCheck(name="p95", bound=200, measured=None, unit="ms", ok=None),)},
    {"state": "done", "kind": "improve", "commands": ("DROP INDEX a;", "echo '<b>'"), "ok": False},
]


class Page(HTMLParser):
    """Collects what a browser would load or run, and the text that it would show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page(text: str) -> Page:
    parsed = Page()
    parsed.feed(text)
    return parsed


@pytest.mark.parametrize("name", BUILTIN)
@pytest.mark.parametrize("state", STATES)
def test_every_format_renders_every_state(name: str, state: dict[str, object]) -> None:
    module = import_module(name)
    assert module.ID
    assert module.EXTENSION
    assert module.render(EMPTY.with_(**state)).strip()


def test_html_loads_nothing_and_runs_only_its_own_script(sample: RunResult) -> None:
    parsed = page(html.render(sample))
    for tag, attributes in parsed.tags:
        assert tag not in {"iframe", "object", "embed", "img", "base", "form"}
        assert "style" not in attributes, "inline styles need a weaker policy"
        assert not [key for key in attributes if key.startswith("on")]
        for key in ("src", "href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:,")), attributes
    assert len([tag for tag, _ in parsed.tags if tag == "script"]) == 1
    assert "url(" not in html.assets()[0]
    assert "@import" not in html.assets()[0]
    policy = next(attributes["content"] for tag, attributes in parsed.tags if tag == "meta" and attributes.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_html_escapes_what_came_from_the_service(sample: RunResult) -> None:
    text = html.render(sample)
    assert "<script>alert" not in text
    assert "<script>alert('x')</script>" in page(text).text


def test_html_is_small_and_says_the_verdict_first(sample: RunResult) -> None:
    text = html.render(sample)
    assert len(html.assets()[0]) + len(html.assets()[1]) < 300_000
    assert text.index("<h1") < text.index("missing-index")
    for wanted in ("missing-index", "idx_orders_customer_id", "cache_ttl_s 5 → 60", "event-loop-blocked", "could not check", "9b1c9b1c", "orders.py:41"):
        assert wanted.lower() in text.lower()


def test_html_draws_the_flame_graph_without_a_script(sample: RunResult) -> None:
    parsed = page(html.render(sample))
    boxes = [attributes for tag, attributes in parsed.tags if tag == "svg" and (attributes.get("class") or "").startswith("f ")]
    assert len(boxes) > 10
    assert all(re.fullmatch(r"[\d.]+%", box["width"] or "") for box in boxes)
    assert "list_orders" in parsed.text


def test_terminal_says_verdict_numbers_proof_and_one_next_command(sample: RunResult) -> None:
    text = terminal.render(sample)
    assert "\x1b" not in text
    assert text.splitlines()[0].startswith("p95 fell from")
    for wanted in (
        "95 % interval",
        "undone",
        "did not help",
        "toggled, 4 pairs",
        "Could not check",
        "fix: boot with psi=1",
        "Next:",
        "report.html",
        "n-plus-one (likely)",
    ):
        assert wanted in text
    assert "\x1b[32mkept" in terminal.render(sample, color=True)


def test_terminal_keeps_control_characters_out(sample: RunResult) -> None:
    evil = sample.with_(unavailable=(Unavailable(probe="x", reason="\x1b]0;owned\x07\x1b[2J"),))
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", terminal.render(evil))


def test_markdown_escapes_and_marks(sample: RunResult) -> None:
    text = markdown.render(sample)
    assert text.startswith(markdown.MARKER)
    assert "<script>" not in text
    assert text.count("<details>") == text.count("</details>")
    assert len(text) <= markdown.SIZE_MAX + 200


def test_junit_parses_and_marks_what_is_missed() -> None:
    checks = (
        SloCheck(name="p95", bound=200, measured=318, unit="ms", ok=False),
        SloCheck(name="p99 <&>\x1b", bound=500, measured=None, unit="ms", ok=None),
        SloCheck(name="error rate", bound=0.01, measured=0.0, unit="share", ok=True),
    )
    suite = ET.fromstring(junit.render(EMPTY.with_(state="done", slo_checks=checks)).split("\n", 1)[1])[0]
    assert suite.attrib | {"tests": "3", "failures": "1", "errors": "1", "skipped": "0"} == suite.attrib
    assert "missed (318 ms)" in suite.find("testcase/failure").attrib["message"]  # type: ignore[union-attr]


def test_json_is_the_result_and_comes_back(sample: RunResult) -> None:
    text = json_format.render(sample)
    assert next(iter(json.loads(text))) == "ok"
    assert RunResult.model_validate_json(text) == sample
