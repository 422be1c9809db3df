"""Whose code a frame is, and what a sampled thread was doing: decided from general signs of runtimes and libraries, never from one service."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache

from perfloop.diagnose.code import Code
from perfloop.model.evidence import Frame


class Doing(StrEnum):
    """What a thread was doing in a sample. ``idle``: no request was there; ``other``: it waited, and nothing says for what (the interpreter's lock among others)."""

    CPU = "on cpu"
    DATABASE = "database"
    CACHE = "cache server"
    HTTP = "downstream"
    POOL = "pool"
    LOCK = "lock"
    SLEEP = "sleep"
    OTHER = "other"
    IDLE = "idle"


_FOLDER = re.compile(r"/(site-packages|dist-packages|lib(64)?/python\d(\.\d+)?)(?=/)")
_LIBRARY = re.compile(r"(/site-packages/|/dist-packages/|/lib(64)?/python\d|/lib/pypy|^<|^$|\.zip/)")
DATABASE_FILES = re.compile(
    r"/(sqlalchemy|psycopg|psycopg2|psycopg_binary|psycopg_c|psycopg_pool|asyncpg|pymysql|MySQLdb|mysql|aiomysql|django/db|tortoise|pony|databases|sqlmodel|pg8000"
    r"|oracledb|sqlite3|aiosqlite|pymongo|motor|cassandra|clickhouse_driver|flask_sqlalchemy|piccolo|gino|dbutils)/|/peewee\.py|/pyodbc"
)
_CACHE_FILES = re.compile(r"/(redis|aioredis|pymemcache|pylibmc|valkey|bmemcached)/|/memcache\.py")
_HTTP_FILES = re.compile(
    r"/(httpx|httpcore|requests|urllib3|botocore|pycurl|httplib2|zeep|suds|niquests|grpc)/|/http/client\.py|/urllib/request\.py|/aiohttp/(client|connector)|/xmlrpc/client"
)
_SOCKET_FILES = re.compile(r"/(socket|ssl|smtplib|ftplib|imaplib|telnetlib)\.py$")
_WAIT_FILES = re.compile(
    r"/(threading|queue|_queue)\.py$|/sqlalchemy/util/(queue|_concurrency_py3k)\.py|/httpcore/_synchronization\.py|/psycopg_pool/_(a?compat)\.py"
)
_LOCK_FILES = re.compile(r"/threading\.py$|/multiprocessing/synchronize\.py$|/(filelock|portalocker|fasteners|redis/lock)[/.]")
_POOL_NAME = re.compile(r"pool|get_?conn|checkout|/sqlalchemy/util/queue\.py", re.IGNORECASE)
#: Frames above a request's own code: servers, event loops, frameworks, worker threads.
_SERVES = re.compile(
    r"/(starlette|fastapi|flask|django|werkzeug|gunicorn|uvicorn|hypercorn|waitress|cheroot|cherrypy|aiohttp|sanic|litestar|falcon|tornado|quart|twisted|gevent|eventlet|celery"
    r"|granian|asgiref|pyramid|uvloop|daphne|ninja|rest_framework|connexion)/|/anyio/_backends/|/asyncio/(events|base_events|runners)\.py|/concurrent/futures/thread\.py"
    r"|/socketserver\.py|/http/server\.py|/wsgiref/|/bottle\.py"
)
#: What runs a server, a loop or a worker thread: application frames outside of it (``main``) belong to no request.
_RUNNERS = re.compile(
    r"/uvloop/|/uvicorn/(main|server|_subprocess|config|workers)\.py|/gunicorn/|/hypercorn/(run|asyncio/run|__main__)|/waitress/(server|task|wasyncore|__init__)\.py|/cheroot/"
    r"|/werkzeug/serving\.py|/socketserver\.py|/http/server\.py|/wsgiref/|/multiprocessing/(process|spawn|popen)|/flask/(cli|app)\.py|/django/core/(management|servers)/"
    r"|/click/|/aiohttp/web(_runner|_protocol)?\.py|/tornado/(ioloop|platform)|/granian/"
)
#: The same, for files that a request's own code calls into as well: only these functions are runners.
_RUNNER_FUNCTIONS = re.compile(r"/(asyncio/(events|base_events|runners)|concurrent/futures/thread|threading|anyio/_backends/_asyncio)\.py")
_RUN_NAMES = {"run", "_run", "run_forever", "run_until_complete", "_run_once", "_worker", "_bootstrap", "_bootstrap_inner"}
_LOOP_FILES = re.compile(r"/asyncio/(base_events|runners|events)\.py|/uvloop/|/trio/_core/_run\.py|/tornado/(ioloop|platform/asyncio)\.py")
_LOOP_RUNS = {"run", "run_forever", "run_until_complete", "_run_once", "_run", "start", "unrolled_run"}

_DATABASE_CALL = re.compile(r"\.(execute|executemany|fetchone|fetchall|fetchmany|fetch|fetchrow|fetchval|commit|rollback|callproc)\(")
_SOCKET_CALL = re.compile(r"\.(recv|recv_into|sendall|connect|urlopen)\(|\burlopen\(|requests\.|httpx\.")
_SLEEP_CALL = re.compile(r"\bsleep\(")
_LOCK_WORD = re.compile(r"lock|mutex|sema|acquire|cond", re.IGNORECASE)


def is_app(frame: Frame, source_root: str) -> bool:
    """True for the service's own code: under its source root, and in no library folder or interpreter."""
    if _LIBRARY.search(frame.file):
        return False
    root = source_root.rstrip("/")
    return not root or frame.file.startswith(root + "/")


@lru_cache(maxsize=20_000)
def library_path(file: str) -> str:
    """The path inside the library folder, with a leading slash, so that no folder above it can be mistaken for a library; empty for other files."""
    ends = [found.end() for found in _FOLDER.finditer(file)]
    return file[ends[-1] :] if ends else ""


def is_loop(frames: Sequence[Frame]) -> bool:
    """True where the stack belongs to a thread that runs an event loop; other threads call into its files too (``call_soon_threadsafe``)."""
    return any(_LOOP_FILES.search(library_path(frame.file)) and frame.function.split(".")[-1] in _LOOP_RUNS for frame in frames)


def request_start(frames: Sequence[Frame]) -> int | None:
    """The index after the innermost runner frame, where a request's own frames begin; None where no server or loop is on the stack."""
    start, serves = 0, False
    for index, frame in enumerate(frames):
        path = library_path(frame.file)
        if not path:
            continue
        serves = serves or bool(_SERVES.search(path))
        if _RUNNERS.search(path) or (_RUNNER_FUNCTIONS.search(path) and frame.function.split(".")[-1] in _RUN_NAMES):
            start = index + 1
    return start if serves else None


def waiting_for(app: Sequence[Frame], beneath: Sequence[Frame], code: Code) -> Doing:
    """What a waiting sample waited for. ``app``: its application frames, outermost first; ``beneath``: the library frames under the innermost of them (or of the server)."""
    leaf = beneath[-1] if beneath else None
    if leaf is not None and _WAIT_FILES.search(library_path(leaf.file)):
        if any(_POOL_NAME.search(library_path(frame.file) + " " + frame.function) for frame in beneath) or _about_pool(app, code):
            return Doing.POOL
        if _LOCK_FILES.search(library_path(leaf.file)) and app and len(beneath) <= 4:
            return Doing.LOCK
    layer = library_layer(beneath)
    if layer is not None:
        return layer
    if leaf is not None and (
        _LOCK_FILES.search(library_path(leaf.file)) or (leaf.function.split(".")[-1] in {"acquire", "handle"} and "/logging/" in leaf.file)
    ):
        return Doing.LOCK if app else Doing.IDLE
    if leaf is not None and _is_cache_wrapper(leaf):
        return Doing.LOCK
    if not app:
        return Doing.IDLE
    if leaf is not None and _SOCKET_FILES.search(library_path(leaf.file)):
        return Doing.HTTP
    return _by_statement(app[-1], code) if leaf is None else Doing.OTHER


def library_layer(beneath: Sequence[Frame]) -> Doing | None:
    """The kind of library that the application's innermost frame called into: database, cache server or HTTP client; None for any other."""
    for frame in beneath:
        if _CACHE_FILES.search(library_path(frame.file)):
            return Doing.CACHE
        if DATABASE_FILES.search(library_path(frame.file)):
            return Doing.DATABASE
        if _HTTP_FILES.search(library_path(frame.file)):
            return Doing.HTTP
    return None


def _is_cache_wrapper(frame: Frame) -> bool:
    return "/cachetools/" in frame.file and "wrapper" in frame.function


def _about_pool(app: Sequence[Frame], code: Code) -> bool:
    return bool(app) and bool(_POOL_NAME.search(app[-1].file.rsplit("/", 1)[-1] + " " + app[-1].function + " " + code.text(app[-1])))


def _by_statement(frame: Frame, code: Code) -> Doing:
    """A wait inside C code that was called from the application itself: the statement tells."""
    statement = code.statement(frame)
    if statement is None:
        return Doing.OTHER
    if isinstance(statement, ast.With | ast.AsyncWith):
        for item in statement.items:
            name = ast.unparse(item.context_expr)
            if isinstance(item.context_expr, ast.Name | ast.Attribute | ast.Subscript) or _LOCK_WORD.search(name):
                return Doing.POOL if _POOL_NAME.search(name) else Doing.LOCK
    text = code.text(frame)
    if ".acquire(" in text or "flock(" in text:
        return Doing.POOL if _POOL_NAME.search(text) else Doing.LOCK
    for pattern, doing in ((_SLEEP_CALL, Doing.SLEEP), (_DATABASE_CALL, Doing.DATABASE), (_SOCKET_CALL, Doing.HTTP)):
        if pattern.search(text):
            return doing
    return Doing.OTHER
