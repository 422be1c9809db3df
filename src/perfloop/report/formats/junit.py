"""JUnit XML for CI: one test case for each SLO, change and finding's rule; missed is a failure, inconclusive is skipped, not measured is an error."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring  # writes only, nothing foreign is parsed

from perfloop.model.loadtest import LoadTest
from perfloop.model.result import RunResult, SloCheck, Tried
from perfloop.model.verdict import Decision, VerdictStatus
from perfloop.report.headline import headline, proof_text, slo_text
from perfloop.report.text import printable

ID = "junit"
EXTENSION = "xml"


def render(result: RunResult) -> str:
    """The document as text."""
    suite = Element(
        "testsuite",
        name=f"perfloop {result.kind}",
        timestamp=result.started_at.rstrip("Z"),
        time=f"{result.duration_s:.3f}",
        hostname=printable(result.target.host),
    )
    if result.state in ("failed", "interrupted"):
        _mark(SubElement(suite, "testcase", classname="perfloop.run", name=result.kind), "error", headline(result))
    for check in result.slo_checks:
        _slo(SubElement(suite, "testcase", classname="perfloop.slo", name=printable(f"{check.name} within {check.bound:g} {check.unit}".strip())), check)
    if result.load_test is not None:
        _load_test(SubElement(suite, "testcase", classname="perfloop.load", name=result.load_test.kind.value), result.load_test)
    for tried in result.tried:
        _tried(SubElement(suite, "testcase", classname="perfloop.change", name=printable(tried.change.title)), tried)
    if not len(suite):
        SubElement(suite, "testcase", classname="perfloop.run", name=result.kind)
    for kind in ("failure", "error", "skipped"):
        suite.set(f"{kind}s" if kind != "skipped" else kind, str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("tests", str(len(suite)))
    root = Element("testsuites")
    root.append(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _slo(case: Element, check: SloCheck) -> None:
    if check.measured is None:
        _mark(case, "error", slo_text(check))
    elif check.ok is None:
        _mark(case, "skipped", slo_text(check))
    elif not check.ok:
        _mark(case, "failure", slo_text(check))


def _load_test(case: Element, test: LoadTest) -> None:
    if test.ok is not True:
        _mark(case, "failure" if test.ok is False else "skipped", test.answer)


def _tried(case: Element, tried: Tried) -> None:
    text = f"{proof_text(tried.verdict)} {tried.reason}".strip()
    if tried.decision in (Decision.STUCK, Decision.FAILED):
        _mark(case, "error", text)
    elif tried.verdict is None or tried.verdict.status in (VerdictStatus.INCONCLUSIVE, VerdictStatus.EQUIVALENT):
        _mark(case, "skipped", text)
    elif tried.verdict.status == VerdictStatus.INVALID:
        _mark(case, "error", text)
    elif tried.verdict.status == VerdictStatus.REGRESSED and tried.decision != Decision.UNDONE:
        _mark(case, "failure", text)


def _mark(case: Element, kind: str, text: str) -> None:
    SubElement(case, kind, message=printable(text))
