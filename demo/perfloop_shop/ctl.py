"""The service's own start, stop and restart; used by the stack, and by the restart command from any other process."""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from perfloop.errors import PerfloopError
from perfloop_shop.processes import read_pid, spawn, stop, wait_until

START_TIMEOUT_S = 25.0


def describe(work_dir: Path, *, port: int, problems: Sequence[str], cpus: Sequence[int]) -> None:
    """Write down how the service is started, so that any process can restart it."""
    (work_dir / "service.json").write_text(json.dumps({"port": port, "problems": list(problems), "cpus": list(cpus)}))


def start(work_dir: Path) -> None:
    """Start the service and wait until it answers; raises ``CannotMeasure`` with the end of its log."""
    how = json.loads((work_dir / "service.json").read_text())
    argv = [sys.executable, "-m", "uvicorn", "perfloop_shop.service.app:app", "--host", "127.0.0.1", "--port", str(how["port"])]
    argv += ["--no-access-log", "--log-level", "warning", "--timeout-graceful-shutdown", "3"]
    extra = {"SHOP_CONFIG": str(work_dir / "shop.toml"), "SHOP_PROBLEMS": ",".join(how["problems"])}
    log, pid_file = work_dir / "shop.log", work_dir / "shop.pid"
    spawn(argv, log=log, pid_file=pid_file, cwd=Path(__file__).resolve().parent / "service", env=python_env() | extra, cpus=how["cpus"])
    wait_until(lambda: answers(how["port"], "/health"), what="the shop", pid_file=pid_file, log=log, timeout_s=START_TIMEOUT_S)


def python_env() -> dict[str, str]:
    """Our environment, in which this package is found also where it is not installed."""
    roots = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, roots))}


def restart(work_dir: str | Path) -> int:
    """Stop the service and start it again on its port; 0 when it answers, 1 with the reason on stderr when not."""
    folder = Path(work_dir)
    try:
        stop(folder / "shop.pid")
        start(folder)
    except (PerfloopError, OSError) as error:
        print(error.render() if isinstance(error, PerfloopError) else f"error: {error}", file=sys.stderr)
        return 1
    return 0


def status(work_dir: Path) -> dict[str, int | None]:
    """Pids of the parts that run; None for one that does not."""
    return {name: read_pid(work_dir / f"{name}.pid") for name in ("shop", "supplier", "postgres")}


def answers(port: int, path: str) -> bool:
    """Whether something on the port answers below 500."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
