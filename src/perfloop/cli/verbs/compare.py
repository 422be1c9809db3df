"""Compare run B with run A, by their windows. Exit 1 where B is proved to be worse."""

from __future__ import annotations

from perfloop.cli.exits import of_verdict
from perfloop.cli.output import Output
from perfloop.cli.shown import verdict_text
from perfloop.model.requests import CompareRequest

REQUEST = CompareRequest


def run(request: CompareRequest, output: Output) -> int:
    """Print the verdict."""
    from perfloop import api

    verdict = api.compare(request)
    code = of_verdict(verdict, request.strict)
    output.answer(verdict_text(verdict), {"ok": code == 0, **verdict.model_dump(mode="json")})
    return code
