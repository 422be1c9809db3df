"""Values made from schemas, judged by a validator that is not ours."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from perfloop.load.importers.openapi import journeys_from_openapi
from perfloop.load.importers.patterns import matching
from perfloop.load.importers.schema_body import NoValueError, value_of

PATTERNS = [
    r"^[A-Z]{3}-\d{4}$", r"^\d{5}(-\d{4})?$", r"^(red|green|blue)$", r"^[^@]+@[^@]+\.[a-z]{2,}$", r"^\+?[1-9]\d{1,14}$", r"[a-f0-9]{8}-[a-f0-9]{4}",
    r"^\S+$", r"^v(\d+)\.(\d+)\.(\d+)$", r"^[A-Za-z_][A-Za-z0-9_]{0,62}$", r"^.{8,}$", r"^(?:[01]\d|2[0-3]):[0-5]\d$", r"^$", r"\w+\s\w+", r"^[^a-z]+$",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_text_matches_its_pattern(pattern):
    text = matching(pattern)
    assert text is not None
    assert re.search(pattern, text)


def test_lengths_and_what_cannot_be_made():
    assert len(matching(r"^[a-z]+$", length_min=5) or "") >= 5
    assert matching(r"^[a-z]{10}$", length_max=3) is None
    assert matching(r"(a)\1") is None
    assert matching(r"[") is None
    assert matching(r"^(?!x).*$") is None or re.search(r"^(?!x).*$", matching(r"^(?!x).*$") or "")


_NUMBERS = st.fixed_dictionaries(
    {"type": st.sampled_from(["integer", "number"])},
    optional={
        "minimum": st.integers(-50, 50),
        "maximum": st.integers(51, 90),
        "exclusiveMinimum": st.integers(-50, 50),
        "multipleOf": st.sampled_from([1, 2, 5, 10]),
    },
)
_STRINGS = st.fixed_dictionaries({"type": st.just("string")}, optional={"minLength": st.integers(0, 30), "maxLength": st.integers(30, 60)})
_LEAVES = (
    _NUMBERS
    | _STRINGS
    | st.just({"type": "boolean"})
    | st.lists(st.text(max_size=5), min_size=1, max_size=3, unique=True).map(lambda v: {"enum": v})
    | st.sampled_from(PATTERNS[:4]).map(lambda p: {"type": "string", "pattern": p})
)


def _inside(children: Any) -> Any:
    objects = st.dictionaries(st.sampled_from("abcde"), children, max_size=4).flatmap(
        lambda properties: st.lists(st.sampled_from("abcdef"), max_size=4, unique=True).map(
            lambda required: {"type": "object", "properties": properties, "required": required}
        )
    )
    arrays = st.tuples(children, st.integers(0, 3)).map(lambda a: {"type": "array", "items": a[0], "minItems": a[1]})
    return (
        objects
        | arrays
        | st.lists(children, min_size=1, max_size=3).map(lambda c: {"anyOf": c})
        | st.tuples(objects, objects).map(lambda c: {"allOf": list(c)})
    )


@settings(max_examples=300, deadline=None)
@given(st.recursive(_LEAVES, _inside, max_leaves=8), st.integers(0, 5))
def test_what_is_made_is_valid(schema, number):
    try:
        value = value_of(schema, {}, number)
    except NoValueError:
        return
    if "allOf" in str(schema):  # two schemas of one property may contradict each other: then nothing is valid
        return
    Draft202012Validator(schema).validate(json.loads(json.dumps(value)))


PET = {
    "openapi": "3.0.3",
    "servers": [{"url": "http://x/api"}],
    "paths": {
        "/pets": {
            "get": {"parameters": [{"name": "status", "in": "query", "required": True, "schema": {"enum": ["sold", "new"]}}]},
            "post": {"requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}}},
        },
        "/pets/{id}": {
            "delete": {"parameters": [{"name": "id", "in": "path", "schema": {"type": "integer"}}]},
            "put": {
                "parameters": [{"name": "id", "in": "path", "schema": {"type": "integer"}}],
                "requestBody": {"required": True, "content": {"image/png": {}}},
            },
            "patch": {
                "parameters": [{"name": "id", "in": "path", "schema": {"type": "string", "pattern": "^P[0-9]{3}$"}}],
                "requestBody": {
                    "content": {
                        "application/x-www-form-urlencoded": {"schema": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}
                    }
                },
            },
        },
    },
    "components": {
        "schemas": {
            "Tag": {"type": "object", "required": ["label"], "properties": {"label": {"type": "string", "minLength": 6}}},
            "Base": {
                "type": "object",
                "required": ["id"],
                "properties": {"id": {"type": "string", "format": "uuid"}, "made": {"type": "string", "readOnly": True}},
            },
            "Pet": {
                "allOf": [
                    {"$ref": "#/components/schemas/Base"},
                    {
                        "type": "object",
                        "required": ["name", "tags", "price"],
                        "properties": {
                            "name": {"type": "string"},
                            "tags": {"type": "array", "minItems": 2, "items": {"$ref": "#/components/schemas/Tag"}},
                            "price": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
                            "kind": {"type": "string", "default": "dog"},
                            "note": {"type": "string"},
                        },
                    },
                ]
            },
        }
    },
}


def test_bodies_of_operations_that_write():
    steps = {step.name: step for step in journeys_from_openapi(PET, writes=True).steps}
    assert set(steps) == {"GET /api/pets", "POST /api/pets", "DELETE /api/pets/{id}", "PATCH /api/pets/{id}"}
    body = json.loads(steps["POST /api/pets"].body)
    assert set(body) == {"id", "name", "tags", "price", "kind"}
    assert len(body["tags"]) == 2
    assert all(len(tag["label"]) >= 6 for tag in body["tags"])
    assert body["price"] > 0
    assert steps["PATCH /api/pets/{id}"].paths == ("/api/pets/P000",)
    assert steps["PATCH /api/pets/{id}"].body == "name=test"
    assert ("Content-Type", "application/x-www-form-urlencoded") in steps["PATCH /api/pets/{id}"].headers


def test_writes_are_opted_in():
    assert [step.method for step in journeys_from_openapi(PET).steps] == ["GET"]
