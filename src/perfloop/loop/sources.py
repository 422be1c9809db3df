"""Where the requests of a load test come from, where a file was named: OpenAPI, HAR, access log, journeys in Python, or another tool's script."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfloop.errors import UsageError
from perfloop.load.importers.access_log import journeys_from_log, replay_from_log, stages_of
from perfloop.load.importers.document import is_yaml, read_document
from perfloop.load.importers.har import journey_from_har
from perfloop.load.importers.openapi import journeys_from_openapi
from perfloop.model.arrival import Replay
from perfloop.model.journey import Journeys, Script, Workload
from perfloop.model.target import Environment

LOG_LINES_MAX = 2_000_000
FILE_MAX_BYTES = 256 * 2**20
_LOCUST = re.compile(r"^\s*(?:from\s+locust\b|import\s+(?:[\w.]+\s*,\s*)*locust\b)", re.M)


@dataclass(frozen=True)
class Source:
    """What a file gave: requests, or a script, and the arrivals of a log."""

    journeys: Journeys | None = None
    script: Script | None = None
    replay: Replay | None = None
    text: str = ""

    @property
    def tool(self) -> str:
        """The tool that runs the script; empty for our own engine."""
        return self.script.tool if self.script else ""

    def of(self, workload: Workload, replay_s: float | None = None, rate_max_per_s: float = 0.0) -> Workload:
        """The workload with these requests; with ``replay_s`` its arrivals are the log's, in real gaps or, where the log is longer, its curve pressed into that time."""
        words: dict[str, Any] = workload.model_dump()
        if self.script is not None:
            words |= {"steps": (), "journeys": (), "script": self.script}
        elif self.journeys is not None:
            words |= {"steps": self.journeys.steps, "journeys": self.journeys.journeys}
        if self.replay is not None and replay_s is not None:
            words |= {"rate_per_s": 0.0, "duration_s": replay_s}
            if self.replay.times_s[-1] <= replay_s:
                words |= {"replay": self.replay}
            else:
                words |= {"stages": stages_of(self.replay, replay_s, rate_max_per_s)}
        return Workload.model_validate(words)


def source_of(file: str, base_dir: Path, base_url: str, environment: Environment, replay: bool) -> Source:
    """Reads the file by what it holds. Requests that may change data are sent in a sandbox only. ``UsageError`` says what the file is not."""
    path = (base_dir / file).expanduser()
    if not path.is_file():
        raise UsageError(f"{file} is not a file", fix="give a path relative to the configuration")
    if path.stat().st_size > FILE_MAX_BYTES:
        raise UsageError(f"{file} is larger than {FILE_MAX_BYTES // 2**20} MB", fix="give a part of it")
    writes = environment == Environment.SANDBOX
    if path.suffix in (".js", ".mjs", ".ts"):
        return Source(script=Script(file=str(path.absolute()), tool="k6"), text=f"{path.name}, run by k6")
    if path.suffix == ".py" and _LOCUST.search(path.read_text(errors="replace")):
        return Source(script=Script(file=str(path.absolute()), tool="locust"), text=f"{path.name}, run by Locust")
    if path.suffix == ".py":
        return Source(script=Script(file=str(path.absolute())), text=f"journeys in {path.name}")
    if path.suffix in (".json", ".har", ".yaml", ".yml"):
        document = read_document(path.read_text(errors="replace"), path.name, is_yaml(path.name))
        if "log" in document:
            journey, text = journey_from_har(document, base_url, writes)
            return Source(journeys=Journeys(journeys=(journey,), source=text), text=text)
        journeys = journeys_from_openapi(document, writes)
        return Source(journeys=journeys, text=journeys.source)
    with path.open(errors="replace") as lines:
        journeys = journeys_from_log(lines, LOG_LINES_MAX)
    if not replay:
        return Source(journeys=journeys, text=journeys.source)
    with path.open(errors="replace") as lines:
        return Source(journeys=journeys, replay=replay_from_log(lines, LOG_LINES_MAX, journeys), text=f"{journeys.source}; its arrivals")
