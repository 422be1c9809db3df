"""What ``perfloop try`` can be asked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from perfloop.model.limits import RatePerS
from perfloop.model.request_words import Request


class TryRequest(Request):
    """Measure candidates of code against the committed state, or settings on the running service; keep what is proved to help."""

    set: tuple[str, ...] = Field(default=(), description="FILE:KEY=VALUE: settings to try on the running service; several race, the best is proved and kept.")
    sql: str = Field(
        default="", max_length=20_000, description="Statements to try, each a candidate with an undo: CREATE INDEX, ALTER SYSTEM SET, ANALYZE and others."
    )
    tune: tuple[Literal["postgresql", "redis", "nginx", "gunicorn"], ...] = Field(
        default=(), description="Products whose settings race: the candidates an expert would try first, within this machine's limits."
    )
    trials: int = Field(default=20, ge=1, le=100, description="Candidates raced and proofs made, at most.")
    branch: tuple[str, ...] = Field(default=(), description="Git references to try; several race.")
    patch: tuple[str, ...] = Field(default=(), description="Patch files to try, as git diff writes them; several race.")
    command: tuple[str, ...] = Field(default=(), description="Other commands to start the same code with, {port} in them; several race.")
    against: str = Field(default="HEAD", min_length=1, max_length=200, description="The git reference that must be beaten.")
    rate_per_s: RatePerS | None = Field(default=None, description="Open arrival rate; empty: the configured one.")
    answers: Literal["body", "status"] = Field(default="body", description="What must be the same in both: status and body, or the status alone.")
    yes: bool = Field(default=False, description="Answer yes to settings that ask, for a restart for instance.")
    strict: bool = Field(default=False, description="Exit 1 where nothing was kept.")
