"""Journeys from access logs and OpenAPI documents, sound and odd."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from perfloop.errors import UsageError
from perfloop.load.importers.access_log import journeys_from_log, template
from perfloop.load.importers.document import read_document
from perfloop.load.importers.openapi import journeys_from_openapi


def line(request: str, status: int = 200) -> str:
    return f'203.0.113.9 - frank [10/Oct/2024:13:55:36 +0000] "{request}" {status} 2326 "http://ref/" "Mozilla/5.0 (X11)"\n'


def test_yaml_documents_say_the_same_as_json() -> None:
    text = """
openapi: 3.0.0
paths:
  /items/{id}:
    get:
      parameters: [{name: id, in: path, required: true, schema: {type: integer, minimum: 3, maximum: 5}}, &page {name: since, in: query, example: 2024-01-31}]
      responses: {200: {description: one}}
  /items:
    get: {parameters: [*page], responses: {200: {description: all}}}
"""
    found = journeys_from_openapi(read_document(text, "openapi.yaml", yaml=True))
    assert found == journeys_from_openapi(
        {
            "openapi": "3.0.0",
            "paths": {
                "/items/{id}": {
                    "get": {
                        "parameters": [
                            {"name": "id", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 3, "maximum": 5}},
                            {"name": "since", "in": "query", "example": "2024-01-31"},
                        ],
                        "responses": {"200": {"description": "one"}},
                    }
                },
                "/items": {"get": {"parameters": [{"name": "since", "in": "query", "example": "2024-01-31"}], "responses": {"200": {"description": "all"}}}},
            },
        }
    )
    assert found.steps[0].paths == tuple(f"/items/{number}?since=2024-01-31" for number in (3, 4, 5))


@pytest.mark.parametrize("text", ["a: [", "- 1", "!!python/object/apply:os.system ['true']", "a: &a [*a]", "{"])
def test_yaml_that_is_none(text: str) -> None:
    with pytest.raises(UsageError):
        read_document(text, "x.yaml", yaml=True)


def test_yaml_that_unfolds_to_a_billion_values() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    with pytest.raises(UsageError, match="can be read") as raised:
        read_document(text, "x.yaml", yaml=True)
    assert "unfolds" in raised.value.why


def test_log_paths_are_grouped_and_weighted():
    lines = [line(f"GET /orders/{n}?page={n} HTTP/1.1") for n in range(30)] + [line("GET /search?q=x HTTP/2.0")] * 10
    journeys = journeys_from_log(lines, 1000)
    assert [(s.name, s.weight) for s in journeys.steps] == [("GET /orders/{id}?page={page}", 30), ("GET /search?q={q}", 10)]
    assert journeys.steps[0].paths[:2] == ("/orders/0?page=0", "/orders/1?page=1")
    assert journeys.steps[1].paths == ("/search?q=x",)
    assert journeys.source == "access log: 40 of 40 lines"


def test_what_is_left_out_of_a_log_is_counted():
    lines = [
        line("GET /a HTTP/1.1"),
        line("POST /a HTTP/1.1"),
        line("GET /wp-admin HTTP/1.1", 404),
        "not a log line\n",
        "\x00\xff binary",
        "",
        line("GET * HTTP/1.1"),
        '1.2.3.4 - - [10/Oct/2024:13:55:36 +0000] "\\x16\\x03\\x01" 400 150 "-" "-"',
        line("GET /" + "a" * 20_000 + " HTTP/1.1"),
    ]
    journeys = journeys_from_log(lines, 1000)
    assert [s.paths for s in journeys.steps] == [("/a",)]
    assert journeys.source == "access log: 1 of 9 lines, 1 of other methods, 1 answered with an error, 6 unreadable"


def test_log_forms():
    common = '::1 - - [10/Oct/2024:13:55:36 +0000] "GET /c HTTP/1.0" 304 -'
    absolute = line("GET http://shop.example/abs?x=1 HTTP/1.1")
    double = line("GET //evil.example/x HTTP/1.1")
    quoted = line("GET /q HTTP/1.1").replace("Mozilla/5.0", 'bad \\" agent')
    assert {s.paths[0] for s in journeys_from_log([common, absolute, double, quoted], 10).steps} == {"/c", "/abs?x=1", "/evil.example/x", "/q"}


def test_log_bounds():
    assert journeys_from_log([line("GET /a HTTP/1.1")] * 10, 4).steps[0].weight == 4
    assert len(journeys_from_log([line(f"GET /p{chr(97 + n % 26)}{n // 26}x HTTP/1.1") for n in range(60)], 100).steps) == 20
    assert len(journeys_from_log([line(f"GET /p/{n} HTTP/1.1") for n in range(2000)], 2000).steps[0].paths) == 500
    with pytest.raises(UsageError) as raised:
        journeys_from_log(["rubbish"] * 3, 100)
    assert "3 unreadable" in raised.value.why


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/users/42/orders/7", "/users/{id}/orders/{id}"),
        ("/f/123e4567-e89b-12d3-a456-426614174000", "/f/{id}"),
        ("/c/0123456789abcdef0123456789abcdef", "/c/{id}"),
        ("/v2/items", "/v2/items"),
        ("/defaced/beef", "/defaced/beef"),
        ("/s?b=1&a=2&a=3", "/s?a={a}&b={b}"),
        ("/", "/"),
    ],
)
def test_templates(path, name):
    assert template(path) == name


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "servers": [{"url": "https://shop.example/api/v1/"}],
    "paths": {
        "/products/{id}": {
            "parameters": [{"$ref": "#/components/parameters/id"}],
            "get": {"parameters": [{"name": "verbose", "in": "query", "schema": {"type": "boolean"}}], "responses": {}},
            "delete": {},
        },
        "/search": {
            "get": {
                "parameters": [
                    {"name": "q", "in": "query", "required": True, "example": "red shoes"},
                    {"name": "page", "in": "query", "schema": {"example": 2}},
                ]
            }
        },
        "/things/{kind}": {"get": {"parameters": [{"name": "kind", "in": "path", "required": True, "schema": {"$ref": "#/components/schemas/Kind"}}]}},
        "/tenant": {"get": {"parameters": [{"name": "X-Tenant", "in": "header", "required": True, "schema": {"type": "string", "default": "acme"}}]}},
        "/events": {"get": {"responses": {"200": {"content": {"text/event-stream": {}}}}}},
        "/old": {"get": {"deprecated": True}},
        "/secret/{code}": {
            "get": {"parameters": [{"name": "code", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^(?=[A-Z]).{9}$"}}]}
        },
        "/unknown/{x}": {"get": {}},
        "/orders": {"post": {}},
        "/health": {"get": {}},
    },
    "components": {
        "parameters": {"id": {"name": "id", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 10, "maximum": 5000}}},
        "schemas": {"Kind": {"anyOf": [{"type": "null"}, {"enum": ["a b", "c"]}]}},
    },
}


def test_openapi():
    journeys = journeys_from_openapi(DOCUMENT)
    steps = {step.name: step for step in journeys.steps}
    assert set(steps) == {"GET /api/v1/products/{id}", "GET /api/v1/search", "GET /api/v1/things/{kind}", "GET /api/v1/tenant", "GET /api/v1/health"}
    ids = [int(path.rsplit("/", 1)[1]) for path in steps["GET /api/v1/products/{id}"].paths]
    assert len(ids) == len(set(ids)) == 100
    assert (min(ids), max(ids)) == (10, 5000)
    assert steps["GET /api/v1/search"].paths == ("/api/v1/search?q=red+shoes&page=2",)
    assert steps["GET /api/v1/things/{kind}"].paths == ("/api/v1/things/a%20b", "/api/v1/things/c")
    assert steps["GET /api/v1/tenant"].headers == (("X-Tenant", "acme"),)
    assert all(step.method == "GET" for step in journeys.steps)
    assert "4 left out" in journeys.source


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({"type": "integer"}, [str(n) for n in range(1, 21)]),
        ({"type": "integer", "exclusiveMinimum": 0, "maximum": 3}, ["1", "2", "3"]),
        ({"type": "integer", "minimum": 5, "exclusiveMinimum": True, "maximum": 6}, ["6"]),
        ({"type": ["integer", "null"], "maximum": 2}, ["1", "2"]),
        ({"type": "number", "minimum": 0.5, "maximum": 2}, ["1", "2"]),
        ({"type": "boolean"}, ["true", "false"]),
        ({"type": "string", "format": "date"}, ["2024-01-15"]),
        ({"type": "string", "minLength": 6}, ["testte"]),
        ({"type": "string", "maxLength": 2}, ["te"]),
        ({"type": "array", "items": {"enum": [7]}}, ["7"]),
        ({"allOf": [{"type": "object"}, {"const": "k"}]}, ["k"]),
        ({"examples": ["e1", "e2"]}, ["e1", "e2"]),
    ],
)
def test_values_of_schemas(schema, sent):
    document = {"openapi": "3.0.0", "paths": {"/x/{v}": {"get": {"parameters": [{"name": "v", "in": "path", "schema": schema}]}}}}
    assert [path.rsplit("/", 1)[1] for path in journeys_from_openapi(document).steps[0].paths] == sent


def test_a_schema_that_contains_itself():
    document = copy.deepcopy(DOCUMENT)
    document["components"]["schemas"]["Kind"] = {"$ref": "#/components/schemas/Kind"}
    assert "GET /api/v1/things/{kind}" not in {step.name for step in journeys_from_openapi(document).steps}
    document["components"]["schemas"]["Kind"] = {"anyOf": [{"$ref": "#/components/schemas/Kind"}]}
    assert journeys_from_openapi(document).steps


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"paths": {}},
        {"openapi": "3.0", "paths": []},
        {"openapi": "3.0", "paths": {"/a": {"post": {}}}},
        {"openapi": "3.0", "paths": {"/a": None, "b": {"get": {}}}},
    ],
)
def test_what_is_no_openapi_document(document):
    with pytest.raises(UsageError) as raised:
        journeys_from_openapi(document)
    assert raised.value.fix


def test_swagger_2():
    document = {
        "swagger": "2.0",
        "basePath": "/v2",
        "paths": {"/pets": {"get": {"parameters": [{"name": "n", "in": "query", "required": True, "type": "integer", "minimum": 1, "maximum": 2}]}}},
    }
    assert journeys_from_openapi(document).steps[0].paths == ("/v2/pets?n=1", "/v2/pets?n=2")
