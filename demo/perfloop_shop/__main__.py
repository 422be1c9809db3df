"""``python -m perfloop_shop``: run the shop by hand, or restart, stop or look at one that runs."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from perfloop.errors import PerfloopError
from perfloop_shop import ctl
from perfloop_shop.problems import FOR_DEMO, PROBLEMS
from perfloop_shop.processes import stop
from perfloop_shop.stack import Stack, take_down


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="perfloop_shop", description="The demo shop.", epilog="problems: " + ", ".join(PROBLEMS))
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start it and wait for Ctrl-C or SIGTERM")
    up.add_argument("--problems", default=",".join(FOR_DEMO), help="names with commas; empty for a healthy shop")
    up.add_argument("--template-dir", type=Path, help="folder for the seeded data, to share it between work folders")
    up.add_argument("--cpu", type=int, help="pin the shop, its supplier and PostgreSQL to this CPU (default: the first of two or more)")
    up.add_argument("--orders", type=int, default=0, help="rows of the largest table")
    control = verbs.add_parser("ctl", help="act on a shop that runs")
    control.add_argument(
        "action", choices=("restart", "stop", "status", "down"), help="restart or stop the service alone; down ends all of a shop whose owner is gone"
    )
    for verb in (up, control):
        verb.add_argument("--work-dir", type=Path, default=Path(".demo"))
    args = parser.parse_args(argv)
    try:
        return _up(args) if args.verb == "up" else _control(args.action, args.work_dir.resolve())
    except PerfloopError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code


def _up(args: argparse.Namespace) -> int:
    ended = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: ended.set())
    sizes = {"orders": args.orders} if args.orders else {}
    cpus = None if args.cpu is None else (args.cpu,)
    with Stack(args.problems.split(","), args.work_dir, args.template_dir, cpus=cpus, **sizes) as stack:
        print(json.dumps({"url": stack.url, "config": str(stack.config_path), "problems": stack.problems}), flush=True)
        ended.wait()
    return 0


def _control(action: str, work_dir: Path) -> int:
    if action == "restart":
        return ctl.restart(work_dir)
    if action == "stop":
        stop(work_dir / "shop.pid")
    if action == "down":
        take_down(work_dir)
    print(json.dumps(ctl.status(work_dir)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
