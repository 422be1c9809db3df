"""Command lines of other systems (systemctl, docker, kubectl, git): run as lists, bounded, with their words in the error."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from perfloop.errors import CannotMeasure, ChangeRefused
from perfloop.host.processes import run_command
from perfloop.host.secrets import redact

TIMEOUT_S = 60.0


def run(argv: Sequence[str], *, cwd: Path | None = None, timeout_s: float = TIMEOUT_S, env: Mapping[str, str] | None = None, fix: str = "") -> str:
    """What it prints; ``ChangeRefused`` with its words where it refuses, ``CannotMeasure`` where it is not there or takes too long."""
    done = run_command(argv, cwd=cwd, timeout_s=timeout_s, env={**os.environ, "LC_ALL": "C", **(env or {})})
    if done.timed_out:
        raise CannotMeasure(f"{argv[0]} did not answer within {timeout_s:g} s", why=shlex.join(argv), fix="look at its daemon")
    if not done.ok:
        words = redact((done.stderr or done.stdout).strip()[-500:])
        raise ChangeRefused(f"{argv[0]} refuses: {shlex.join(argv)[:300]}", why=words or f"it ended with status {done.returncode}", fix=fix or "run it by hand")
    return done.stdout
