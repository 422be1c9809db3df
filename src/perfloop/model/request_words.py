"""The words that the requests of several verbs share: how a field looks at a door, budgets, addresses, names of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from perfloop.model.base import Word
from perfloop.model.limits import check_connection, is_store, parse_duration_s

BUDGET_MIN_S, BUDGET_MAX_S = 30.0, 86_400.0
DURATION_MIN_S, DURATION_MAX_S, RAMP_UP_MAX_S = 10.0, 86_400.0, 3_600.0


@dataclass(frozen=True)
class Door:
    """How a field looks on the command line: a positional argument instead of an option, all that is left (``rest``), or hidden because the door itself fills it in."""

    argument: bool = False
    rest: bool = False
    hidden: bool = False


def check_budget(text: str) -> str:
    """A budget of 30 s to 24 h as text (``5m``), returned unchanged; ``ValueError`` names the value and the bound. Empty: the configuration decides."""
    if text and not BUDGET_MIN_S <= parse_duration_s(text) <= BUDGET_MAX_S:
        raise ValueError(f"a budget of {text} is outside 30s to 24h")
    return text


def check_url(text: str) -> str:
    """An http or https URL, the address of a database or cache without credentials, or nothing; returned unchanged, with ``http://`` before a bare ``host:port``."""
    if not text or text.startswith(("http://", "https://")):
        return text
    if is_store(text):
        return check_connection(text)
    if "://" in text:
        raise ValueError(f"{text[:80]!r} is no http or https address")
    return f"http://{text}"


Budget = Annotated[str, AfterValidator(check_budget), Field(description="Time for the whole run, 30s to 24h: 90s, 5m, 1h. Empty: the configuration's limit.")]
Url = Annotated[str, AfterValidator(check_url), Door(argument=True), Field(description="Base URL of the service. Empty: the configured one.", max_length=2_000)]
RunName = Annotated[str, Field(description="A run: its id, last, or baseline:NAME.", max_length=200)]


class Request(Word):
    """What all verbs accept."""

    config: Annotated[str, Door(hidden=True)] = Field(default="", description="Configuration file; empty: perfloop.toml or pyproject.toml here.")
