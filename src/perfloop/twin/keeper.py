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
INITDB = ("-U", "postgres", "--auth=trust", "--no-sync")
INITDB_SINCE = {14: ("--no-instructions",), 16: ("-c", "shared_buffers=16MB", "-c", "max_connections=10"), 18: ("--no-data-checksums",)}
SERVER = (
    "shared_buffers=16MB",
    "max_connections=10",
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
    """``keeper FOLDER BIN MAJOR USER_ID GROUP_ID [INITDB OPTION …]``: the user id is -1 where no other user is needed. Prints ``ready`` or the reason."""
    folder, binaries, major = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    user, group = int(arguments[3]), int(arguments[4])
    initdb = (*INITDB, *(option for since, options in INITDB_SINCE.items() if major >= since for option in options), *arguments[5:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)  # tells a later start that this folder is in use
    identity: dict[str, object] = {} if user < 0 else {"user": user, "group": group, "extra_groups": []}
    server: subprocess.Popen[bytes] | None = None
    try:
        data = str(folder / "data")
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
        common = {"cwd": folder, "env": environment, "stdin": subprocess.DEVNULL, **identity}
        made = subprocess.run([binaries / "initdb", "-D", data, *initdb], capture_output=True, timeout=START_S, **common)  # type: ignore[call-overload]
        if made.returncode:
            print("initdb: " + made.stderr.decode(errors="replace").strip().replace("\n", " ")[-400:], flush=True)
            return 1
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
