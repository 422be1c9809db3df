"""Where a request begins and ends: servers and frameworks of WSGI and ASGI, and the standard library's own server."""

from __future__ import annotations

from functools import wraps

from perfloop_agent import counts


def _wsgi_method(original):
    @wraps(original)
    def call(self, environ, start_response):  # the very signature: servers try it out
        token = _wsgi_begin(environ)
        try:
            return original(self, environ, start_response)
        finally:
            counts.end(token)

    return call


def _wsgi_begin(environ):
    try:
        return counts.begin(environ.get("REQUEST_METHOD", "?"), environ.get("PATH_INFO", "/"))
    except Exception as error:
        counts.failed(error)
        return None


def _asgi_method(original):
    @wraps(original)
    async def call(self, scope, receive, send):
        token = _asgi_begin(scope)
        try:
            return await original(self, scope, receive, send)
        finally:
            counts.end(token)

    return call


def _asgi_begin(scope):
    try:
        return counts.begin(scope.get("method", "?"), scope.get("path", "/")) if scope.get("type") == "http" else None
    except Exception as error:
        counts.failed(error)
        return None


def _call_of(name, wrap):
    def patch(module):
        owner = getattr(module, name)
        owner.__call__ = wrap(owner.__call__)

    return patch


def gunicorn_worker(module):
    """Whatever application a gunicorn worker loads."""
    real = module.Worker.load_wsgi

    @wraps(real)
    def load_wsgi(self):
        real(self)
        app = getattr(self, "wsgi", None)
        if not callable(app):
            return

        def counted(environ, start_response):
            token = _wsgi_begin(environ)
            try:
                return app(environ, start_response)
            finally:
                counts.end(token)

        self.wsgi = counted

    module.Worker.load_wsgi = load_wsgi


def uvicorn_config(module):
    """Whatever application uvicorn loads."""
    real = module.Config.load

    @wraps(real)
    def load(self):
        real(self)
        app = self.loaded_app

        async def counted(scope, receive, send):
            token = _asgi_begin(scope)
            try:
                return await app(scope, receive, send)
            finally:
                counts.end(token)

        self.loaded_app = counted

    module.Config.load = load


def http_server(module):
    """``http.server``: from the parsed request line to the end of its handler."""
    owner = module.BaseHTTPRequestHandler
    parse, one = owner.parse_request, owner.handle_one_request

    @wraps(parse)
    def parse_request(self):
        answer = parse(self)
        if answer:
            self._perfloop_token = counts.begin(self.command, self.path)
        return answer

    @wraps(one)
    def handle_one_request(self):
        try:
            return one(self)
        finally:
            counts.end(self.__dict__.pop("_perfloop_token", None))

    owner.parse_request, owner.handle_one_request = parse_request, handle_one_request


REQUESTS = {
    "gunicorn.workers.base": gunicorn_worker,
    "uvicorn.config": uvicorn_config,
    "flask.app": _call_of("Flask", _wsgi_method),
    "django.core.handlers.wsgi": _call_of("WSGIHandler", _wsgi_method),
    "django.core.handlers.asgi": _call_of("ASGIHandler", _asgi_method),
    "starlette.applications": _call_of("Starlette", _asgi_method),
    "http.server": http_server,
}
