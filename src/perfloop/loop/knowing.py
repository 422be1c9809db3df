"""What perfloop knows and can do here: doctor, explain, init."""

from __future__ import annotations

import difflib
import inspect
from pathlib import Path

from perfloop.context.config import load_config, starter_config
from perfloop.context.discover import discover
from perfloop.context.doctor import capabilities
from perfloop.diagnose.query.judge import PAGES
from perfloop.errors import PerfloopError, UsageError
from perfloop.host.files import write_atomic
from perfloop.loop import plugins
from perfloop.model.config import Config, TargetConfig
from perfloop.model.exit_codes import EXIT_CODES
from perfloop.model.replies import DoctorCheck, DoctorResult, InitResult
from perfloop.model.requests import DoctorRequest, ExplainRequest, InitRequest

KINDS = ("rule", "change kind", "probe", "format", "engine")


def doctor(request: DoctorRequest, cwd: Path | None) -> DoctorResult:
    """What a full run needs, and what closes each gap; a target that does not answer is one of the gaps."""
    loaded = load_config(request.config or None, cwd or Path.cwd())
    config = loaded.config
    if request.url:
        config = config.with_(target=config.target.with_(url=request.url))
    target, notes = None, []
    if config.target.url:
        try:
            target = discover(config, loaded.base_dir)
        except PerfloopError as error:
            notes.append(error.what + (f" ({error.why})" if error.why else ""))
    checks = tuple(
        DoctorCheck(name=one.name, ok=one.ok, found=one.reason, fix=one.fix, needed_for=getattr(one, "needed_for", ""))
        for one in capabilities(config, target, loaded.base_dir)
    )
    return DoctorResult(ok=not notes, target=target, checks=checks, notes=tuple(notes))


def explain(request: ExplainRequest, cwd: Path | None) -> str:
    """The docstring of a plug-in, or the list of all there is to explain."""
    del cwd
    pages = {kind: plugins.load(kind) for kind in KINDS}
    if not request.id:
        lines = [f"{kind}s: {', '.join(sorted(found))}" for kind, found in pages.items()]
        lines.append(f"causes of a slow query: {', '.join(sorted(PAGES))}")
        return "\n".join([*lines, f"exit codes: {', '.join(str(code) for code in sorted(EXIT_CODES))}"])
    for kind, found in pages.items():
        if request.id in found:
            return f"{request.id} ({kind})\n\n{inspect.cleandoc(found[request.id].__doc__ or '')}"
    if request.id in PAGES:  # a cause that perfloop query names
        return f"{request.id} (cause of a slow query)\n\n{inspect.cleandoc(PAGES[request.id].__doc__ or '')}"
    engine = f"{request.id.split('-', 1)[0]}-health"
    if engine in pages["rule"] and f'"{request.id}"' in inspect.getsource(pages["rule"][engine]):
        return f"{request.id} (named by the rule {engine})\n\n{inspect.cleandoc(pages['rule'][engine].__doc__ or '')}"
    known = sorted({*(name for found in pages.values() for name in found), *PAGES})
    near = difflib.get_close_matches(request.id, known, 1)
    raise UsageError(f"there is nothing called {request.id!r} to explain", fix=f"did you mean {near[0]}?" if near else "perfloop explain lists what there is")


def init(request: InitRequest, cwd: Path | None) -> InitResult:
    """Write a perfloop.toml from what can be discovered at the URL."""
    here = cwd or Path.cwd()
    path = here / "perfloop.toml"
    if path.exists() and not request.force:
        raise UsageError(f"{path} exists", why="it is yours", fix="perfloop init --force overwrites it")
    if not request.url:
        raise UsageError("no URL to look at", fix="perfloop init http://127.0.0.1:8000")
    target = discover(Config(target=TargetConfig(url=request.url)), here)
    write_atomic(path, starter_config(target).encode())
    return InitResult(path=str(path), notes=target.unknown)
