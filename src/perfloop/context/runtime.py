"""What a process runs: language, version and framework, from its program, command line, mapped libraries and folders. No code of it is run."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perfloop.host import procfs

# Program name → runtime
_PROGRAMS = (
    (re.compile(r"^(?:python|pypy)[\d.]*(?:t|d)?$"), "python"),
    (re.compile(r"^(?:node|nodejs|bun|deno)$"), "node"),
    (re.compile(r"^java$"), "java"),
    (re.compile(r"^(?:ruby|puma|unicorn)[\d.]*$"), "ruby"),
    (re.compile(r"^(?:php|php-fpm)[\d.]*$"), "php"),
    (re.compile(r"^dotnet$"), "dotnet"),
    (re.compile(r"^beam(?:\.smp)?$"), "erlang"),
)
_LIBRARIES = (("libpython", "python"), ("libjvm.so", "java"), ("libcoreclr.so", "dotnet"), ("libnode.so", "node"), ("libruby", "ruby"))
# Servers first: what answers the socket; a framework inside it is the fallback.
_PYTHON_SERVERS = (
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "daphne",
    "granian",
    "uwsgi",
    "waitress",
    "flask",
    "django",
    "aiohttp",
    "tornado",
    "sanic",
    "fastapi",
    "starlette",
    "werkzeug",
)
_NODE_FRAMEWORKS = ("next", "@nestjs/core", "fastify", "express", "koa", "@hapi/hapi")
_HEADERS = (
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "daphne",
    "granian",
    "uwsgi",
    "waitress",
    "werkzeug",
    "tornado",
    "aiohttp",
    "cheroot",
    "wsgiserver",
    "nginx",
    "apache",
    "caddy",
    "express",
    "kestrel",
    "jetty",
    "puma",
)
_ARGUMENTS = {"manage.py": "django", "catalina": "tomcat", "spring": "spring", "flask": "flask"}
_SITE = re.compile(r"^(?P<site>/.*?/(?:site|dist)-packages)/")
_VERSION = re.compile(r"python(\d+\.\d+)")
_GO_MARK = b"Go build ID:"
_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True)
class Runtime:
    """Language, its version where that is cheap to tell, and the server or framework; ``unknown`` and empty where not."""

    name: str = "unknown"
    version: str = ""
    framework: str = ""


def runtime_of(pid: int, argv: Sequence[str], exe: str, server_header: str = "") -> Runtime:
    """What a process runs; where we may not look into it, only what its name and answers give away."""
    mapped = procfs.mapped_files(pid)
    name = _name(exe, argv, mapped, pid)
    return Runtime(name, _version(name, exe, mapped, pid), _framework(name, argv, mapped, pid, server_header))


def _name(exe: str, argv: Sequence[str], mapped: Sequence[str], pid: int) -> str:
    for candidate in (exe, argv[0] if argv else ""):
        program = candidate.rpartition("/")[2]
        for pattern, runtime in _PROGRAMS:
            if pattern.match(program):
                return runtime
    for path in mapped:
        file = path.rpartition("/")[2]
        for beginning, runtime in _LIBRARIES:
            if file.startswith(beginning):
                return runtime
    head = _head(pid)
    if not head:
        return "unknown"
    return "go" if _GO_MARK in head else "native"


def _head(pid: int) -> bytes:
    """The first bytes of the program, by the kernel's own link (which works in another mount namespace too)."""
    try:
        with Path(f"/proc/{pid}/exe").open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""


def _version(name: str, exe: str, mapped: Sequence[str], pid: int) -> str:
    """Without running it: from file names of the program and its libraries."""
    if name == "python":
        found = [match[1] for path in (exe, *mapped) if (match := _VERSION.search(path))]
        return max(set(found), key=found.count) if found else ""
    if name == "java":
        match = re.search(r"(?:jdk|java|jre)[-_/]?(?:openjdk-)?(\d+(?:\.\d+)*)", exe)
        return match[1] if match else ""
    if name == "node":
        header = Path(f"/proc/{pid}/root{Path(exe).parent.parent}/include/node/node_version.h")
        try:
            numbers = re.findall(r"#define NODE_(?:MAJOR|MINOR|PATCH)_VERSION (\d+)", header.read_text()[:20_000])
        except OSError:
            match = re.search(r"v(\d+\.\d+\.\d+)", exe)
            return match[1] if match else ""
        return ".".join(numbers[:3])
    return ""


def _framework(name: str, argv: Sequence[str], mapped: Sequence[str], pid: int, server_header: str) -> str:
    words = [part.rpartition("/")[2].removesuffix(".py") for part in argv]
    if name == "python":
        for server in _PYTHON_SERVERS:
            if server in words or any(word.startswith(f"{server}:") for word in words):  # gunicorn renames itself "gunicorn: worker [app]"
                return server
    for part in argv:
        for mark, framework in _ARGUMENTS.items():
            if mark in part.rpartition("/")[2].lower():
                return framework
    header = server_header.lower()
    for server in _HEADERS:
        if server in header:
            return "flask" if server == "werkzeug" else server
    if name == "python":
        return _installed(_sites(mapped, pid), _PYTHON_SERVERS)
    if name == "node":
        cwd = procfs.link(pid, "cwd")
        return _installed([f"{cwd}/node_modules"] if cwd else [], _NODE_FRAMEWORKS)
    return ""


def _sites(mapped: Sequence[str], pid: int) -> list[str]:
    """Folders of installed packages that the process has mapped a library from."""
    del pid
    return list(dict.fromkeys(match["site"] for path in mapped if (match := _SITE.match(path))))


def _installed(folders: Sequence[str], names: Sequence[str]) -> str:
    """The only one of the packages that is installed there; empty where there are several: installed is not imported."""
    found = [name for name in names if any(os.path.isdir(f"{folder}/{name}") for folder in folders)]  # noqa: PTH112
    return found[0] if len(found) == 1 else ""
