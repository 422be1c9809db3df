"""``perfloop demo``: runs the loop on a service that an installed package brings; perfloop itself knows none."""

from __future__ import annotations

from collections.abc import Callable, Generator
from importlib.metadata import entry_points
from pathlib import Path

from perfloop.errors import UsageError
from perfloop.model.event import Event, PhaseStarted, Told
from perfloop.model.requests import DemoRequest, ImproveRequest
from perfloop.model.result import RunResult

GROUP = "perfloop.demos"

Improve = Callable[[ImproveRequest, Path | None], Generator[Event, None, RunResult]]


def run_demo(request: DemoRequest, improve: Improve, cwd: Path | None) -> Generator[Event, None, RunResult]:
    """Start the first demo found, improve it, and end it, also after a failure (unless it is to be kept)."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    if not points:
        raise UsageError("no demo service is installed", why=f"no package offers an entry point {GROUP}", fix="run make demo in a clone of the repository")
    work_dir = Path(request.work_dir) if request.work_dir else (cwd or Path.cwd()) / ".demo"
    yield PhaseStarted(phase="demo", detail=f"starting {points[0].name}: its database, its data and its services")
    with points[0].load()(work_dir, list(request.problems) or None, keep=request.keep) as service:
        yield Told(text=f"{points[0].name} runs at {service.url} with {', '.join(service.problems) or 'no problem'} switched on; {service.note}")
        asked = ImproveRequest(config=str(service.config_path), budget=request.budget, no_input=True)
        return (yield from improve(asked, work_dir))
