"""What is said between us and a model, in words that no vendor owns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Call:
    """A tool that the model wants: ``arguments`` is None where what it sent is no JSON object."""

    id: str
    tool: str
    arguments: dict[str, Any] | None
    raw: str = ""


@dataclass(frozen=True)
class Reply:
    """One answer of the model. ``refused``: it will not go on. ``cut``: it ran into its own limit of length."""

    text: str
    calls: tuple[Call, ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    refused: bool = False
    cut: bool = False


@dataclass(frozen=True)
class Result:
    """The answer of a tool, given back to the model."""

    call: Call
    text: str
    failed: bool = False


@dataclass
class Turn:
    """A message: from the user (``text``), from the model (``reply``), or the results of its calls."""

    text: str = ""
    reply: Reply | None = None
    results: list[Result] = field(default_factory=list)


@dataclass(frozen=True)
class ToolText:
    """A tool as a model reads of it."""

    name: str
    description: str
    schema: dict[str, Any]


class Model(Protocol):
    """One vendor's model behind its own client library."""

    name: str

    def answer(self, system: str, turns: list[Turn], tools: list[ToolText], tokens_max: int) -> Reply:
        """The next reply; ``CannotMeasure`` where the vendor does not answer."""
        ...
