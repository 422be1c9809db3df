"""Journeys from a service's OpenAPI document (3.x, or Swagger 2): its GET operations, with values made from the schemas."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from perfloop.errors import UsageError
from perfloop.load.importers.schema_body import NoValueError, value_of
from perfloop.load.importers.schema_values import resolve, values
from perfloop.model.journey import Journeys, Step

READS, WRITES = ("get",), ("post", "put", "patch", "delete")
STEPS_MAX = 100
PATHS_MAX = 100  # concrete paths of one step


def journeys_from_openapi(document: dict[str, Any], writes: bool = False) -> Journeys:
    """One step for each GET operation, with ``writes`` for POST, PUT, PATCH and DELETE too; parameters and JSON bodies get values from example, enum, default or their schema.

    Path and required parameters are always sent, optional ones where the document gives an example. Left out are deprecated operations, those that answer with
    an endless event stream, and those that need a value nobody can make up. ``UsageError`` where it is no OpenAPI document or nothing is left.
    """
    paths = document.get("paths")
    if not isinstance(paths, dict) or not ("openapi" in document or "swagger" in document):
        raise UsageError("this is not an OpenAPI document", why="it needs openapi (or swagger) and paths", fix="give the service's openapi.json")
    prefix = _prefix(document)
    steps: list[Step] = []
    left_out = 0
    methods = (*READS, *WRITES) if writes else READS
    for path, item in paths.items():
        item = resolve(item, document)
        if not isinstance(path, str) or not path.startswith("/"):
            continue
        for method in methods:
            if not isinstance(item.get(method), dict):
                continue
            step = _step(document, prefix, path, method, item, resolve(item[method], document))
            if step is None or len(steps) >= STEPS_MAX:
                left_out += 1
            else:
                steps.append(step)
    if not steps:
        raise UsageError(
            "the OpenAPI document has no operation that can be sent",
            why=f"{left_out} were left out" if left_out else "there is none",
            fix="write [[journeys]] in perfloop.toml",
        )
    return Journeys(steps=tuple(steps), source=f"openapi: {len(steps)} {'' if writes else 'GET '}operations" + (f", {left_out} left out" if left_out else ""))


def _step(document: dict[str, Any], prefix: str, path: str, method: str, item: dict[str, Any], operation: dict[str, Any]) -> Step | None:
    if operation.get("deprecated") or _streams(document, operation):
        return None
    parameters = _parameters(document, item, operation)
    in_path: dict[str, list[str]] = {}
    in_query: dict[str, list[str]] = {}
    headers: list[tuple[str, str]] = []
    for parameter in parameters.values():
        place, name = parameter["in"], str(parameter["name"])
        made = values(parameter, document)
        if place == "path":
            in_path[name] = made
        elif parameter.get("required") or _has_example(parameter):
            if not made:
                return None
            if place == "query":
                in_query[name] = made
            elif place == "header":
                headers.append((name, made[0]))
    concrete = _concrete(prefix + path, in_path, in_query)
    try:
        kind, body = _body(document, operation)
    except NoValueError:
        return None
    if kind:
        headers.append(("Content-Type", kind))
    return Step(name=f"{method.upper()} {prefix}{path}", method=method.upper(), paths=concrete, headers=tuple(headers), body=body) if concrete else None


def _body(document: dict[str, Any], operation: dict[str, Any]) -> tuple[str, str]:
    """Content type and body that the operation asks for, both empty where it asks for none; ``NoValueError`` where none can be made of what it needs."""
    body = resolve(operation.get("requestBody"), document)
    content = body.get("content") if isinstance(body.get("content"), dict) else {}
    if not content:  # Swagger 2 has it among the parameters
        found = [p for reference in operation.get("parameters") or () if (p := resolve(reference, document)).get("in") == "body"]
        if not found:
            return "", ""
        return "application/json", json.dumps(value_of(found[0].get("schema", {}), document))
    for kind, media in content.items():
        media = resolve(media, document)
        if kind.split(";")[0].strip().endswith(("/json", "+json")):
            return kind, json.dumps(_example(media, document))
        if kind.startswith("application/x-www-form-urlencoded"):
            made = _example(media, document)
            return kind, urlencode({name: _plain(value) for name, value in made.items()}) if isinstance(made, dict) else ""
    if body.get("required"):
        raise NoValueError
    return "", ""


def _example(media: dict[str, Any], document: dict[str, Any]) -> Any:
    if "example" in media:
        return media["example"]
    examples = media.get("examples")
    if isinstance(examples, dict):
        for entry in examples.values():
            if "value" in (given := resolve(entry, document)):
                return given["value"]
    return value_of(media.get("schema", {}), document)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _concrete(path: str, in_path: dict[str, list[str]], in_query: dict[str, list[str]]) -> tuple[str, ...]:
    """Paths with values in turn; several parameters advance together. Empty where a ``{name}`` has no value."""
    if any(not made for made in in_path.values()):
        return ()
    count = min(PATHS_MAX, max([1, *(len(made) for made in (*in_path.values(), *in_query.values()))]))
    found: dict[str, None] = {}
    for k in range(count):
        filled = path
        for name, made in in_path.items():
            filled = filled.replace("{" + name + "}", quote(made[k % len(made)], safe=""))
        if "{" in filled:
            return ()
        query = urlencode([(name, made[k % len(made)]) for name, made in in_query.items()])
        found[filled + (f"?{query}" if query else "")] = None
    return tuple(found)


def _parameters(document: dict[str, Any], item: dict[str, Any], operation: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """By place and name; the operation's own replace the path's."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for owner in (item, operation):
        for reference in owner.get("parameters") or ():
            parameter = resolve(reference, document)
            if parameter.get("in") in ("path", "query", "header") and parameter.get("name"):
                found[str(parameter["in"]), str(parameter["name"])] = parameter
    return found


def _has_example(parameter: dict[str, Any]) -> bool:
    schema = parameter.get("schema")
    return "example" in parameter or bool(parameter.get("examples")) or (isinstance(schema, dict) and ("example" in schema or bool(schema.get("examples"))))


def _streams(document: dict[str, Any], operation: dict[str, Any]) -> bool:
    """True where every content that a success may have is an event stream: a response that never ends."""
    responses = operation.get("responses") or {}
    kinds = [kind for status, response in responses.items() if str(status).startswith("2") for kind in (resolve(response, document).get("content") or {})]
    return bool(kinds) and all(kind.startswith("text/event-stream") for kind in kinds)


def _prefix(document: dict[str, Any]) -> str:
    """The path of the first server (``/api/v1``), without which no path of the document exists; Swagger 2 has basePath."""
    servers = document.get("servers")
    url = servers[0].get("url", "") if isinstance(servers, list) and servers and isinstance(servers[0], dict) else document.get("basePath", "")
    path = urlsplit(str(url)).path.rstrip("/")
    return path if path.startswith("/") and "{" not in path else ""
