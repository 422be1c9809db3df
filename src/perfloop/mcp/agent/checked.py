"""Every figure of an answer against stored evidence, as ``perfloop verify-claims`` does it."""

from __future__ import annotations

from pathlib import Path

from perfloop import api
from perfloop.errors import UsageError
from perfloop.model.requests import VerifyClaimsRequest


def strike(text: str, config: str, cwd: Path | None, answer_file: Path) -> tuple[str, tuple[str, ...]]:
    """The text with each figure that no run supports struck out and marked, and those figures with the reason.

    Where there is no stored run at all, every figure is without evidence.
    """
    answer_file.touch(mode=0o600)
    answer_file.write_text(text)
    try:
        claims = api.verify_claims(VerifyClaimsRequest(config=config, file=str(answer_file.resolve())), cwd).claims
    except UsageError:
        claims = api.verify_claims(VerifyClaimsRequest(config=config, file=str(answer_file.resolve()), run="all"), cwd).claims
    lines = text.splitlines()
    struck = []
    for claim in claims:
        if claim.state != "supported":
            at = claim.line - 1
            lines[at] = lines[at].replace(claim.figure, f"~~{claim.figure}~~ [{claim.state}]", 1)
            struck.append(f"{claim.figure} ({claim.state}{f': {claim.truth}' if claim.truth else ''})")
    return "\n".join(lines), tuple(struck)
