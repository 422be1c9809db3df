"""Where calls are counted: each known module is wrapped when the service imports it. What a version does not have is left out."""

from __future__ import annotations

import inspect
import sys
from functools import wraps

from perfloop_agent import counts


def counted(owner, name, kind, text_of):
    """Replace ``owner.name`` by one that counts; nothing where there is none, or it is counted already."""
    original = owner.__dict__.get(name)
    if not callable(original) or hasattr(original, "_perfloop_original"):
        return
    now, note, plain = counts.now, counts.note, kind == "database"  # a statement that is text is its own name: no call for it

    if inspect.iscoroutinefunction(original):

        @wraps(original)
        async def call(self, *args, **kwargs):
            started = now()
            try:
                return await original(self, *args, **kwargs)
            finally:
                note(kind, args[0] if plain and args and type(args[0]) is str else text_of(self, args, kwargs), started)
    else:

        @wraps(original)
        def call(self, *args, **kwargs):
            started = now()
            try:
                return original(self, *args, **kwargs)
            finally:
                note(kind, args[0] if plain and args and type(args[0]) is str else text_of(self, args, kwargs), started)

    call._perfloop_original = original
    setattr(owner, name, call)


def _safe(text_of):
    """A text that cannot be told is no reason to fail."""

    def told(self, args, kwargs):
        try:
            return text_of(self, args, kwargs)
        except Exception as error:
            counts.failed(error)
            return counts.OTHER

    return told


def _sql(self, args, kwargs):
    query = args[0] if args else kwargs.get("query", kwargs.get("sql", counts.OTHER))
    if type(query) is str:
        return query
    if isinstance(query, (bytes, bytearray)):
        return bytes(query).decode("utf-8", "replace")
    return query.as_string(getattr(self, "connection", None)) if hasattr(query, "as_string") else str(query)


def _redis(self, args, kwargs):
    command = args[0] if args else ""
    key = args[1] if len(args) > 1 else ""
    return "%s %s" % (_word(command), _word(key)) if key != "" else _word(command)


def _word(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _pipeline(self, args, kwargs):
    return "(pipeline)"


def _httpx(self, args, kwargs):
    request = args[0] if args else kwargs["request"]
    url = request.url
    return "%s %s:%s%s" % (request.method, url.host, url.port or (443 if url.scheme == "https" else 80), url.path)


def _http_client(self, args, kwargs):
    method, path = getattr(self, "_perfloop_sent", ("?", ""))
    if "://" in path:  # through a proxy
        path = "/" + path.split("://", 1)[1].partition("/")[2]
    return "%s %s:%s%s" % (method, self.host, self.port, path.partition("?")[0])


def psycopg_cursor(module):
    """psycopg 3: every statement passes its cursor."""
    for name in ("Cursor", "AsyncCursor", "ServerCursor", "AsyncServerCursor"):
        owner = getattr(module, name, None)
        if owner is not None:
            for method in ("execute", "executemany"):
                counted(owner, method, "database", _safe(_sql))


def pymysql_connections(module):
    """PyMySQL: every statement passes ``Connection.query``."""
    counted(module.Connection, "query", "database", _safe(_sql))


def sqlite(module):
    """sqlite3's own classes cannot be changed: connections without a factory of their own get ours."""
    real = module.connect
    sql = _safe(_sql)

    class Cursor(module.Cursor):
        pass

    class Connection(module.Connection):
        def cursor(self, factory=Cursor):
            return super().cursor(factory)

        def execute(self, *args):  # the shortcuts make their cursor in C, past ours
            return self.cursor().execute(*args)

        def executemany(self, *args):
            return self.cursor().executemany(*args)

        def executescript(self, *args):
            return self.cursor().executescript(*args)

    def method(name):
        real_method = getattr(module.Cursor, name)
        now, note = counts.now, counts.note

        def call(self, *args):  # positional only, as sqlite3's own
            started = now()
            try:
                return real_method(self, *args)
            finally:
                note("database", args[0] if args and type(args[0]) is str else sql(self, args, {}), started)

        return call

    for name in ("execute", "executemany", "executescript"):
        setattr(Cursor, name, method(name))

    @wraps(real)
    def connect(*args, **kwargs):
        if len(args) < 6 and "factory" not in kwargs:
            kwargs["factory"] = Connection
        return real(*args, **kwargs)

    module.connect = connect


def django_sqlite(module):
    """Django's cursor on sqlite3 is a class of its own."""
    for name in ("execute", "executemany"):
        counted(module.SQLiteCursorWrapper, name, "database", _safe(_sql))


def redis_client(module):
    """redis-py, both kinds: single commands, and a pipeline as one call."""
    counted(module.Redis, "execute_command", "cache", _safe(_redis))
    counted(module.Pipeline, "execute", "cache", _safe(_pipeline))


def http_client(module):
    """urllib, requests and urllib3 all send through here."""
    owner = module.HTTPConnection
    put = owner.putrequest

    @wraps(put)
    def putrequest(self, method, url, *args, **kwargs):
        self._perfloop_sent = (method, url)
        return put(self, method, url, *args, **kwargs)

    owner.putrequest = putrequest
    counted(owner, "getresponse", "http", _safe(_http_client))


def httpx_transports(module):
    """httpx, both kinds."""
    counted(module.HTTPTransport, "handle_request", "http", _safe(_httpx))
    counted(module.AsyncHTTPTransport, "handle_async_request", "http", _safe(_httpx))


class Finder:
    """Stands before the other finders, lets them find the module, and wraps it once it is loaded."""

    def __init__(self, patches):
        self.patches, self._busy = patches, set()

    def find_spec(self, name, path=None, target=None):
        """The others' answer, with a loader that patches afterwards; None for what is not ours."""
        if name not in self.patches or name in self._busy:
            return None
        self._busy.add(name)
        try:
            for finder in list(sys.meta_path):
                find = getattr(finder, "find_spec", None)
                spec = find(name, path, target) if find and finder is not self else None
                if spec is not None:
                    if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                        spec.loader = Loader(spec.loader, self.patches[name])
                    return spec
        finally:
            self._busy.discard(name)
        return None


class Loader:
    """The real loader, and the patch after it; the module keeps the real one."""

    def __init__(self, real, patch):
        self._real, self._patch = real, patch

    def __getattr__(self, name):
        return getattr(self._real, name)

    def create_module(self, spec):
        """As the real one does."""
        return self._real.create_module(spec)

    def exec_module(self, module):
        """As the real one does, then the patch."""
        module.__loader__ = self._real
        if module.__spec__ is not None:
            module.__spec__.loader = self._real
        self._real.exec_module(module)
        apply(self._patch, module)


def apply(patch, module):
    """Patch a module; where that fails it stays as it is."""
    try:
        patch(module)
    except Exception as error:
        counts.failed(error)


def install(patches):
    """Patch what is loaded, and from now on what will be."""
    for name, patch in patches.items():
        if name in sys.modules:
            apply(patch, sys.modules[name])
    sys.meta_path.insert(0, Finder(patches))


CALLS = {
    "psycopg.cursor": psycopg_cursor,
    "psycopg.cursor_async": psycopg_cursor,
    "psycopg.server_cursor": psycopg_cursor,
    "psycopg._server_cursor": psycopg_cursor,
    "psycopg._server_cursor_async": psycopg_cursor,
    "pymysql.connections": pymysql_connections,
    "sqlite3.dbapi2": sqlite,
    "django.db.backends.sqlite3.base": django_sqlite,
    "redis.client": redis_client,
    "redis.asyncio.client": redis_client,
    "http.client": http_client,
    "httpx._transports.default": httpx_transports,
}
