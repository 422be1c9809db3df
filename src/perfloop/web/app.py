"""The pages: the list of runs, and a run as its report."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from perfloop import api
from perfloop.errors import PerfloopError, StorageError
from perfloop.model.requests import ReportRequest, RunsRequest, UiRequest
from perfloop.report.formats.html import assets, content_policy
from perfloop.report.text import printable
from perfloop.web.wall import Wall


def application(request: UiRequest, token: str, hosts: tuple[str, ...]) -> ASGIApp:
    """The app behind its wall. Pages are plain functions, so that reading files does not hold up the event loop."""
    pages = Environment(loader=PackageLoader("perfloop.web", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters["printable"] = printable

    def listing(_request: Request) -> HTMLResponse:
        runs = api.runs(RunsRequest(config=request.config)).runs
        style = Markup(assets()[0])  # noqa: S704 - our own file
        return HTMLResponse(pages.get_template("runs.html.j2").render(runs=runs, style=style, token=token))

    def run(asked: Request) -> HTMLResponse:
        try:
            return HTMLResponse(api.report(ReportRequest(config=request.config, run=asked.path_params["run"], format="html")))
        except ValidationError:
            return _message("that is no name of a run", 404)

    def failed(_request: Request, error: Exception) -> HTMLResponse:
        text = error.render() if isinstance(error, PerfloopError) else "the page could not be made"
        return _message(text, 500 if isinstance(error, StorageError) else 404)

    def _message(text: str, status: int) -> HTMLResponse:
        style = Markup(assets()[0])  # noqa: S704 - our own file
        return HTMLResponse(pages.get_template("message.html.j2").render(text=text, style=style, token=token), status)

    app = Starlette(routes=[Route("/", listing), Route("/runs/{run}", run)], exception_handlers={PerfloopError: failed})
    return Wall(app, token, hosts, content_policy())
