"""Set coding agents up in this project, take that out again, or run the built-in agent.

perfloop agent install claude        shows the difference, asks, writes; remove takes it out
perfloop agent run "find out why /orders is slow" --model NAME
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import click

from perfloop.cli.output import Output
from perfloop.cli.progress import follow
from perfloop.errors import UsageError
from perfloop.model.exit_codes import FINE, NO
from perfloop.model.replies import AgentFilesResult, AgentRunResult
from perfloop.model.requests import AgentRequest
from perfloop.report.text import printable

REQUEST = AgentRequest


def run(request: AgentRequest, output: Output) -> int:
    """Write files after a look at them, or run the agent."""
    return _story(request, output) if request.action == "run" else _files(request, output)


def _files(request: AgentRequest, output: Output) -> int:
    from perfloop.loop.agents import planned, write

    folder = Path.cwd()
    result = planned(request.subject, folder, remove=request.action == "remove")
    if not output.json:
        output.tell("".join(one.diff for one in result.files).rstrip("\n") or "Nothing to change.")
    if result.files and (request.yes or _asked(request)):
        result = write(result, folder)
    output.answer(_files_text(result, request.action), result)
    return FINE


def _asked(request: AgentRequest) -> bool:
    if request.no_input or not sys.stdin.isatty():
        raise UsageError("nobody can be asked whether to write these files", fix="--yes writes them")
    return click.confirm("Write this?", err=True)


def _files_text(result: AgentFilesResult, action: str) -> str:
    done = ("written" if action == "install" else "removed") if result.written else "not written"
    lines = [f"{done}: {one.path}" for one in result.files] + [f"left, because it was edited: {path}" for path in result.left]
    return "\n".join(lines or ["nothing to do"])


def _story(request: AgentRequest, output: Output) -> int:
    try:
        story = import_module("perfloop.mcp.agent.story")  # doors do not import one another: this one is opened by its name
    except ModuleNotFoundError as error:
        raise UsageError("perfloop agent run needs the mcp extra", why=f"{error.name} is not installed", fix="pip install 'perfloop[mcp,agent]'") from error
    result: AgentRunResult = follow(story.run(request), output)
    cost = f", cost {result.cost:.4g}" if result.cost is not None else ""
    facts = [
        f"{result.state}: {result.reason}" if result.reason else result.state,
        f"{result.steps} steps, {result.tokens_in + result.tokens_out:,} tokens{cost}",
    ]
    facts += [f"struck out, no evidence: {figure}" for figure in result.struck] + [f"transcript: {result.transcript}"]
    output.answer(printable("\n".join([result.answer, "", *facts]).strip()), result)
    return FINE if result.ok else NO
