"""What the verbs for agents, and the doors that serve, can be asked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from perfloop.model.request_words import Door, Request, RunName, check_url


class ContextRequest(Request):
    """What is known about the service, as one agent asks another: SLAs, metrics, architecture, load patterns, pain points, scalability."""

    run: RunName = "last"
    request: str = Field(
        default="", description="File with the request, one JSON object; it is checked, and the answer is the same without it.", max_length=4_096
    )
    state: str = Field(
        default="", description="File with what another agent says of the service (JSON): kept with its source, beside what was measured.", max_length=4_096
    )


class AgentRequest(Request):
    """Set coding agents up in this project, take that out again, or run the built-in agent."""

    action: Annotated[Literal["install", "remove", "run"], Door(argument=True)] = Field(description="install, remove or run.")
    subject: Annotated[str, Door(argument=True)] = Field(
        description="claude, codex, cursor or generic; for run: what it shall do.", min_length=1, max_length=20_000
    )
    yes: bool = Field(default=False, description="Write without asking; the difference is shown all the same.")
    vendor: Literal["anthropic", "openai"] = Field(
        default="anthropic", description="Whose API: anthropic (Messages) or openai (chat completions, also other servers of it)."
    )
    model: str = Field(default="", description="The model, as the vendor calls it.", max_length=200)
    base_url: Annotated[str, AfterValidator(check_url)] = Field(default="", description="Another server of the same API.", max_length=2_000)
    allow_changes: bool = Field(default=False, description="Let it apply plans and roll back.")
    steps_max: int = Field(default=30, ge=1, le=200, description="Replies of the model at most, 1 to 200.")
    tokens_max: int = Field(default=400_000, ge=1_000, le=20_000_000, description="Tokens in and out together at most.")
    cost_max: float | None = Field(default=None, gt=0, le=10_000, description="Cost at most, in the unit of the prices.")
    price_in: float = Field(default=0.0, ge=0, le=10_000, description="Price of a million tokens in; no price is built in.")
    price_out: float = Field(default=0.0, ge=0, le=10_000, description="Price of a million tokens out.")
    no_input: Annotated[bool, Door(hidden=True)] = Field(default=False, description="Never ask; what would need an answer is not done.")


class RunRequest(Request):
    """Start a service with counters inside: queries, cache calls and outgoing HTTP per request, with file and line (Python)."""

    command: Annotated[tuple[str, ...], Door(argument=True, rest=True)] = Field(
        description="The command that starts the service, after --. It replaces perfloop: its process id, signals and exit code are its own.",
        min_length=1,
        max_length=1_000,
    )


class UiRequest(Request):
    """Show the stored runs in a browser: on 127.0.0.1 only, behind a random token, read-only."""

    port: int = Field(default=0, ge=0, le=65_535, description="Port; 0: a free one.")


class McpRequest(Request):
    """Serve perfloop to coding agents as MCP tools, over stdio or over HTTP on 127.0.0.1."""

    allow_changes: bool = Field(default=False, description="Offer the tools that change the target: apply and rollback.")
    http: bool = Field(default=False, description="Streamable HTTP on 127.0.0.1 behind a token, instead of stdio.")
    port: int = Field(default=8765, ge=1, le=65_535, description="Port for --http.")
