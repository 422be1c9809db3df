"""``perfloop verify-claims``: a text's figures against the runs that it is about."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from perfloop.errors import PerfloopError, UsageError
from perfloop.host.files import read_limited
from perfloop.loop import plugins
from perfloop.loop.stored import opened
from perfloop.model.replies import ClaimItem, ClaimsResult
from perfloop.model.requests import VerifyClaimsRequest
from perfloop.model.result import RunResult
from perfloop.store.runs import RunStore
from perfloop.validate.claims import check_text
from perfloop.validate.facts import facts_of

TEXT_MAX_BYTES = 4 * 2**20
RUNS_MAX = 200
#: the formats whose lines count as perfloop's own words
_OWN_FORMATS = ("markdown", "terminal")
_RUN_ID = re.compile(r"\b\d{8}-\d{6}-[a-z]+-[0-9a-f]{4}\b")


def verify_claims(request: VerifyClaimsRequest, cwd: Path | None) -> ClaimsResult:
    """``UsageError`` where the text or the run cannot be read."""
    _, store = opened(request.config, cwd)
    text = _text(request.file, cwd or Path.cwd())
    runs = _runs(request.run, text, store)
    facts = [fact for run in runs for fact in facts_of(run)]
    claims = check_text(text, facts, [line for run in runs for line in _own_lines(run)])
    items = tuple(
        ClaimItem(
            line=claim.line,
            figure=claim.figure,
            sentence=claim.sentence,
            state=claim.state,
            truth=claim.truth.text if claim.truth else "",
            run_id=claim.truth.run_id if claim.truth else "",
        )
        for claim in claims
    )
    return ClaimsResult(ok=all(item.state == "supported" for item in items), file=request.file, runs=tuple(run.run_id for run in runs), claims=items)


def _text(file: str, folder: Path) -> str:
    if file == "-":
        return sys.stdin.read(TEXT_MAX_BYTES)
    path = folder / file
    if not path.is_file():
        raise UsageError(f"there is no file {file}", fix="perfloop verify-claims FILE, or - to read from stdin")
    return read_limited(path, TEXT_MAX_BYTES).decode(errors="replace")


def _runs(name: str, text: str, store: RunStore) -> list[RunResult]:
    if name == "all":
        return [store.load_result(row.run_id) for row in store.list_runs(RUNS_MAX) if (store.root / "runs" / row.run_id / "run.json").exists()]
    if name:
        return [store.load_result(name)]
    named = []
    for run_id in dict.fromkeys(_RUN_ID.findall(text)):
        try:
            named.append(store.load_result(run_id))
        except UsageError:
            continue  # not a run of this project: its figures are then without evidence
    return named or ([] if _RUN_ID.search(text) else [store.load_result("last")])


def _own_lines(run: RunResult) -> list[str]:
    """The lines of the reports that perfloop writes for this run: whoever quotes one unchanged quotes a measurement."""
    formats = plugins.load("format")
    lines = [run.delivery_notice]
    for name in _OWN_FORMATS:
        try:
            lines += str(formats[name].render(run)).splitlines()
        except PerfloopError:
            continue
    return lines
