"""Runs one private PostgreSQL as long as its parent lives, then removes every trace of it.

Its folder holds statistics, which are personal data, so it must go also when the parent is killed: the parent's death closes
this process's standard input. Started by path with ``python -I -S``, so it imports the standard library only.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

STOP_S = 5.0
START_S = 30.0
MODELS_MAX = 4  # of about 40 MB each
INITDB = ("-U", "postgres", "--auth=trust", "--no-sync")
INITDB_SINCE = {14: ("--no-instructions",), 16: ("-c", "shared_buffers=16MB", "-c", "max_connections=24"), 18: ("--no-data-checksums",)}
SERVER = (
    "shared_buffers=16MB",
    "max_connections=24",  # of several twins in one server
    "max_locks_per_transaction=2000",  # thousands of tables are made in one transaction
    "listen_addresses=",
    "autovacuum=off",  # nothing may read or rewrite the hollow files
    "fsync=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "wal_skip_threshold=0",  # else a new small index is read into memory at commit, before its metapage is written
    "checkpoint_timeout=1d",
    "shared_memory_type=mmap",
    "dynamic_shared_memory_type=mmap",  # /dev/shm may be missing or tiny in a container
    "huge_pages=off",
    "max_parallel_maintenance_workers=0",  # else CREATE INDEX plans, and reads the metapages of the other indexes too early
    "jit=off",
    "log_min_error_statement=panic",  # no query text on disk
    "log_min_messages=fatal",
)


def main(arguments: list[str]) -> int:
    """``keeper FOLDER BIN MAJOR USER_ID GROUP_ID MODEL [INITDB OPTION …]``: the user id is -1 where no other user is needed. Prints ``ready`` or the reason.

    MODEL is the folder of an empty cluster made before by the same program with the same options, which is copied; where it is missing, it is made of the new one.
    """
    folder, binaries, major = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    user, group, model = int(arguments[3]), int(arguments[4]), Path(arguments[5])
    initdb = (*INITDB, *(option for since, options in INITDB_SINCE.items() if major >= since for option in options), *arguments[6:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)  # tells a later start that this folder is in use
    identity: dict[str, object] = {} if user < 0 else {"user": user, "group": group, "extra_groups": []}
    server: subprocess.Popen[bytes] | None = None
    try:
        data = str(folder / "data")
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
        common = {"cwd": folder, "env": environment, "stdin": subprocess.DEVNULL, **identity}
        if not _copied(model, data, common):
            made = subprocess.run([binaries / "initdb", "-D", data, *initdb], capture_output=True, timeout=START_S, **common)  # type: ignore[call-overload]
            if made.returncode:
                print("initdb: " + made.stderr.decode(errors="replace").strip().replace("\n", " ")[-400:], flush=True)
                return 1
            _remember(model, Path(data))
        options = [part for setting in (*SERVER, f"unix_socket_directories={folder}") for part in ("-c", setting)]
        server = subprocess.Popen([binaries / "postgres", "-D", data, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **common)  # type: ignore[call-overload]
        print("ready", flush=True)
        sys.stdin.buffer.read()  # returns when the parent closes it, or is gone
    except (OSError, subprocess.SubprocessError) as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    finally:
        _stop(server)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _copied(model: Path, data: str, common: dict[str, object]) -> bool:
    """True where the model was there, was made by this user, and nobody else may write to it; then it is copied, by the server's own user."""
    try:
        status = model.lstat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o022 or not (model / "PG_VERSION").is_file():
            return False
        copied = subprocess.run(["cp", "-r", model, data], capture_output=True, timeout=START_S, umask=0o077, **common)  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return False
    if copied.returncode:
        shutil.rmtree(data, ignore_errors=True)
    return bool(copied.returncode == 0)


def _remember(model: Path, data: Path) -> None:
    """Keep the new, empty cluster as the model of the next ones: nothing of any target is in it yet. The least used ones go; where there is no room or right, none is kept."""
    if not model.name:
        return
    draft = model.with_name(f"{model.name}.{os.getpid()}")
    try:
        model.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copytree(data, draft, copy_function=shutil.copyfile)
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        draft.rename(model)
        others = sorted((path for path in model.parent.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
        for path in others[:-MODELS_MAX]:
            shutil.rmtree(path, ignore_errors=True)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)


def _stop(server: subprocess.Popen[bytes] | None) -> None:
    if server is None:
        return
    server.send_signal(signal.SIGQUIT)  # immediate: there is nothing to write
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
