"""From a URL to what stands behind it: listening socket, processes, runtime, peers, limits, revision. What cannot be seen is said, never guessed."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from perfloop.context.peers import peers_of
from perfloop.context.revision import git_revision
from perfloop.context.runtime import runtime_of
from perfloop.errors import CannotMeasure, PerfloopError, UsageError
from perfloop.host import cgroup, procfs, sockdiag
from perfloop.host.http import Response, fetch, split_url
from perfloop.host.processes import cpus_of, descendants, is_local, listeners, listening_inodes, listening_pids, start_time_s
from perfloop.host.secrets import redact_argv, resolve
from perfloop.model.config import Config
from perfloop.model.limits import place_of
from perfloop.model.target import Environment, Process, Target

REACH_TIMEOUT_S = 5.0
PROCESSES_MAX = 256
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
_PROXIES = ("docker-proxy", "rootlessport", "slirp4netns", "kube-proxy")


def discover(config: Config, base_dir: str | Path = ".") -> Target:
    """The target behind ``target.url``, found by one GET and by looking at this machine; call it again after some traffic, as pools connect late.

    Raises UsageError (no URL, no such process id) and CannotMeasure (nothing answers, hangs, talks no HTTP, redirects for ever).
    """
    if not config.target.url:
        raise UsageError(
            "no target is named", "neither an address nor target.url was given", "perfloop improve http://127.0.0.1:8000, or set target.url in perfloop.toml"
        )
    parts = split_url(config.target.url)
    named = _named_process(config)
    answer = _reach(config, base_dir)
    local = is_local(parts.hostname or "")
    pids, unknown = _find(parts, named, local)
    return _target(config, base_dir, parts, local, pids, answer.header("server"), unknown)


def discover_store(config: Config, base_dir: str | Path = ".") -> Target:
    """The server of a database or cache behind ``target.url``: its first process, as those of its connections come and go. Nothing is sent to it."""
    place, named = place_of(config.target.url), _named_process(config)
    if place.socket and named is None:
        parts, local = urlsplit(f"//localhost:{place.port or 1}"), True
        pids: tuple[int, ...] = ()
        unknown = [f"processes: {place.socket} is a Unix socket; name the server's process with target.process"]
    else:
        parts = urlsplit(config.target.url)
        local = bool(place.socket) or is_local(place.host)
        pids, unknown = _find(parts, named, local)
    return _target(config, base_dir, parts, local, pids[:1], "", unknown)


def rediscover(target: Target, config: Config, base_dir: str | Path = ".") -> Target:
    """The target as it is now, without sending a request: processes again where any was restarted, else only what it is connected to."""
    parts = split_url(target.url)
    pids, unknown = _find(parts, _named_process(config), target.local)
    if {(process.pid, process.started_s) for process in target.processes} == {(pid, start_time_s(pid)) for pid in pids}:
        return target.model_copy(update={"peers": peers_of(pids, _configured(config, base_dir, [])), "unknown": target.unknown})
    return _target(config, base_dir, parts, target.local, pids, target.server_header, unknown)


def _target(config: Config, base_dir: str | Path, parts: SplitResult, local: bool, pids: tuple[int, ...], server_header: str, unknown: list[str]) -> Target:
    processes = []
    for pid in pids:
        try:
            processes.append(_process(pid, server_header, unknown))
        except CannotMeasure:
            continue  # a worker that ended meanwhile
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    root = _source_root(config, base_dir, processes)
    return Target(
        name=config.target.name or f"{host}:{port}",
        url=config.target.url,
        host=host,
        port=port,
        local=local,
        environment=config.target.environment or Environment.STAGING,
        processes=tuple(processes),
        peers=peers_of([process.pid for process in processes], _configured(config, base_dir, unknown)),
        server_header=server_header[:200],
        git_revision=git_revision(root) if root else "",
        source_root=root,
        cpu_count=os.cpu_count() or 1,
        unknown=tuple(dict.fromkeys(unknown)),
    )


def _reach(config: Config, base_dir: str | Path) -> Response:
    headers = tuple((name, resolve(value, base_dir) if value.startswith(("env:", "file:")) else value) for name, value in config.target.headers.items())
    ca_file = str(Path(base_dir) / config.target.ca_file) if config.target.ca_file else ""
    url = config.target.url.rstrip("/") + config.target.health_path if config.target.health_path.startswith("/") else config.target.url
    # the first answer will do: redirects are followed to find those that never end
    return fetch(url, headers=headers, timeout_s=REACH_TIMEOUT_S, ca_file=ca_file, max_bytes=16_000_000)


def _named_process(config: Config) -> int | None:
    text = config.target.process
    if text == "auto":
        return None
    if not text.isdigit():
        raise UsageError(f'target.process is "{text}"; it must be auto or a process id', "", 'write target.process = "auto"')
    if start_time_s(int(text)) is None:
        raise UsageError(f"there is no process {text}", "target.process names it", 'write target.process = "auto", or the id of a process that runs')
    return int(text)


def _find(parts: SplitResult, named: int | None, local: bool) -> tuple[tuple[int, ...], list[str]]:
    """Pids of the service, its first process first, and what cannot be seen."""
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if named is not None:
        return _family((named,), port), []
    if not local:
        return (), [f"processes, stacks, sockets and limits: {host} is another machine; only its answers can be measured from here"]
    try:
        table = listeners()
    except CannotMeasure as error:
        return _family(listening_pids(host, port), port), [f"sockets: {error.why}"]
    pids = listening_pids(host, port)
    if not pids:
        if listening_inodes(host, port, table):
            return (), [
                f"processes: the socket on port {port} belongs to a process that we may not look into (another user's or another container's); run perfloop as that user or as root"
            ]
        return (), [f"processes: port {port} is served from outside of this network namespace (a container or a forwarder); name it with target.process"]
    family = _family(pids, port)
    names = {procfs.read_stat(pid).name for pid in family[:1]}
    if names & set(_PROXIES):
        return (), [f"processes: port {port} is held by {names.pop()}, the service runs in a container; name its process with target.process"]
    return family, []


def _family(listening: tuple[int, ...], port: int) -> tuple[int, ...]:
    """The processes that listen, and their descendants that serve nothing else: master first, then by pid."""
    roots = [pid for pid in listening if start_time_s(pid) is not None]
    found = dict.fromkeys(roots)
    for root in roots:
        skipped: set[int] = set()
        for child in descendants(root):
            if child in found or child in skipped:
                continue
            if _is_helper(child) or _listens_elsewhere(child, port):
                skipped |= {child, *descendants(child)}
                continue
            found[child] = None
    parents = {pid: _parent(pid) for pid in found}
    return tuple(sorted(found, key=lambda pid: (parents[pid] in found, pid)))[:PROCESSES_MAX]


def _parent(pid: int) -> int:
    try:
        return procfs.read_stat(pid).parent_pid
    except CannotMeasure:
        return 0


def _is_helper(pid: int) -> bool:
    try:
        line = " ".join(procfs.argv(pid))
    except PerfloopError:
        return True
    return any(name in line for name in _HELPERS)


def _listens_elsewhere(pid: int, port: int) -> bool:
    """True for a server of its own (a database that the service started): it listens, and not on the service's port."""
    try:
        ports = {entry.local_port for entry in sockdiag.sockets_of([pid], states=(sockdiag.LISTEN,))}
    except CannotMeasure:
        return False
    return bool(ports) and port not in ports


def _process(pid: int, server_header: str, unknown: list[str]) -> Process:
    stat, argv = procfs.read_stat(pid), procfs.argv(pid)
    exe, cwd = procfs.link(pid, "exe"), procfs.link(pid, "cwd")
    if not exe:
        unknown.append(f"program, folder, sockets and stacks of process {pid} ({stat.name}): it belongs to another user; run perfloop as that user or as root")
    runtime = runtime_of(pid, argv, exe, server_header)
    bounds = cgroup.limits(pid)
    try:
        fd_limit = procfs.fd_limit(pid)
    except CannotMeasure:
        fd_limit = None
    return Process(
        pid=pid,
        parent_pid=stat.parent_pid,
        name=stat.name,
        argv=tuple(part[:500] for part in redact_argv(argv[:100])),
        cwd=cwd,
        exe=exe,
        runtime=runtime.name,
        runtime_version=runtime.version,
        framework=runtime.framework,
        started_s=stat.started_s,
        threads=stat.threads,
        cpus=cpus_of(pid),
        cpu_limit_cores=bounds.cpu_cores,
        memory_limit_bytes=bounds.memory_bytes,
        fd_limit=fd_limit,
        cgroup=bounds.path,
    )


def _source_root(config: Config, base_dir: str | Path, processes: list[Process]) -> str:
    if config.target.source_root:
        return str((Path(base_dir) / config.target.source_root).resolve())
    return next((process.cwd for process in processes if process.cwd and process.cwd != "/"), "")


def _configured(config: Config, base_dir: str | Path, unknown: list[str]) -> tuple[str, int] | None:
    """Host and port of the configured PostgreSQL."""
    reference = config.target.postgres or config.target.postgres_admin
    if not reference:
        return None
    from perfloop.sql.connect import address_of  # psycopg takes 50 ms to import; only where a database is configured

    try:
        address = address_of(resolve(reference, base_dir))
    except UsageError as error:
        unknown.append(f"database: {error.what}" + (f" ({error.why})" if error.why else ""))
        return None
    return address.host, address.port
