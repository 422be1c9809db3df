"""Opens a session from a request: configuration and flags, bounds, a place to write, recovery, policy; and closes it whatever happens."""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator
from pathlib import Path
from typing import Literal

from perfloop.context.config import load_config
from perfloop.context.limits import policy
from perfloop.errors import PerfloopError, UndoFailed, UsageError
from perfloop.host.secrets import resolve
from perfloop.load.targets import check_allowed
from perfloop.loop import deliver
from perfloop.loop.prepare import Session
from perfloop.loop.recover import recover, warn_others
from perfloop.model.base import utc_now
from perfloop.model.config import Config
from perfloop.model.event import Event, Told
from perfloop.model.limits import is_store
from perfloop.model.requests import CheckRequest, ImproveRequest, LoadRequest
from perfloop.model.result import RunResult
from perfloop.model.target import Environment, Target
from perfloop.store.approvals import Approvals
from perfloop.store.audit import AuditLog
from perfloop.store.forward import Forwarder
from perfloop.store.journal import Journal
from perfloop.store.runs import RunStore

DISK_FREE_MIN_BYTES = 32 * 2**20


def open_session(request: CheckRequest, kind: Literal["improve", "check", "load", "capacity"], cwd: Path | None) -> Session:
    """Everything that can be refused is refused here, before anything has run."""
    here = cwd or Path.cwd()
    loaded = load_config(request.config or None, here)
    config = effective(loaded.config, request, kind)
    if not config.target.url:
        raise UsageError("no URL to measure", fix="perfloop check http://127.0.0.1:8000, or target.url in perfloop.toml (perfloop init URL writes one)")
    if kind != "load" and is_store(config.target.url):
        raise UsageError(
            f"perfloop {kind} measures a service by HTTP",
            why=f"{config.target.url} is a database or cache",
            fix="perfloop load sends load to it; perfloop query and perfloop indexes look into a database",
        )
    check_allowed(config.target.url, config.target.allow_hosts)
    environment = config.target.environment or Environment.STAGING
    rules = policy(config, environment, Approvals().kinds(config.target.url, environment.value))
    store = RunStore(loaded.base_dir if loaded.path else here)
    store.check_writable(DISK_FREE_MIN_BYTES)
    journal, audit = Journal(), AuditLog(user=config.user, environment=environment.value, change_ticket=config.changes.ticket or None)
    result = RunResult(
        kind=kind,
        run_id=store.create(kind),
        started_at=utc_now(),
        target=Target(name=config.target.name or config.target.url, url=config.target.url, host="", port=0, local=True, environment=environment),
        slo=config.slo,
    )
    session = Session(
        config=config,
        base_dir=loaded.base_dir,
        store=store,
        journal=journal,
        audit=audit,
        policy=rules,
        result=result,
        deadline=time.monotonic() + config.limits.time_max_s,
    )
    session.put()
    if config.target.environment is None:
        session.note("target.environment is not configured: treated as staging")
    return session


def open_load(request: LoadRequest, cwd: Path | None) -> Session:
    """The same for a load test; its budget follows from its kind and duration."""
    asked = CheckRequest(
        config=request.config, url=request.url, environment=request.environment, rate_per_s=request.rate_per_s, no_throughput=True, no_input=request.no_input
    )
    session = open_session(asked, "load", cwd)
    levels = max(1, len(request.levels)) * 4
    session.deadline = time.monotonic() + max(session.config.limits.time_max_s, (request.duration_s or 0.0) * levels + request.ramp_up_s + 600)
    return session


def effective(config: Config, request: CheckRequest, kind: str) -> Config:
    """The configuration with the request's flags over it."""
    target = config.target.with_(**{key: value for key, value in (("url", request.url), ("environment", request.environment)) if value})
    measure = config.measure
    if request.rate_per_s:
        measure = measure.with_(rate_per_s=request.rate_per_s)
    if request.no_throughput or kind == "check":
        measure = measure.with_(throughput=False)
    limits = config.limits.with_(time_max_s=request.budget_s) if request.budget_s else config.limits
    changes = config.changes
    if isinstance(request, ImproveRequest) and request.yes:
        changes = changes.with_(allow="ask")
    changed: Config = config.with_(target=target, measure=measure, limits=limits, changes=changes)
    return changed


def run(session: Session, work: Generator[Event, None, RunResult], output_dir: str) -> Generator[Event, None, RunResult]:
    """Recover what an earlier run left open here, do the work, and keep what is known when it fails."""
    try:
        for line in recover(session.config.target.url, journal=session.journal, audit=session.audit, incidents=session.config.incidents):
            yield Told(level="warning", text=line)
            session.note(line)
        for line in warn_others(session.journal, session.config.target.url):
            yield Told(level="warning", text=line)
        waits = Forwarder(session.journal.root).flush(session.config.incidents, lambda reference: resolve(reference, session.base_dir))[1]
        if waits:
            session.note(f"events for incident management wait on disk: {waits}")
        result = yield from work
    except PerfloopError as error:
        commands = error.commands if isinstance(error, UndoFailed) else ()
        session.note(error.what + (f" ({error.why})" if error.why else ""))
        session.put(ok=False, commands=session.result.commands + tuple(c for c in commands if c not in session.result.commands))
        deliver.finish(session, "failed")
        raise
    finally:
        session.store.retain(session.config.limits.disk_max_bytes, session.config.limits.runs_max)
        session.journal.forget()
        session.audit.prune()
    if output_dir:
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("report.html", "run.json"):
            shutil.copyfile(session.store.path(result.run_id) / name, folder / name)
    return result
