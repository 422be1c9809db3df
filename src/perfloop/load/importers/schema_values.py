"""Values for a parameter, made from what its schema says; the same schema gives the same values."""

from __future__ import annotations

from typing import Any

from perfloop.load.importers.patterns import matching

DEPTH_MAX = 20
VALUES_MAX = 100
IDS = 20  # numbers tried for an integer without bounds: low ones, which a service with any data is most likely to have
FORMATS = {
    "uuid": "00000000-0000-4000-8000-000000000001",
    "date": "2024-01-15",
    "date-time": "2024-01-15T12:00:00Z",
    "email": "user@example.com",
    "uri": "https://example.com/",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "12:00:00Z",
    "byte": "dGVzdA==",
    "uri-reference": "/test",
}


def resolve(node: Any, document: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """The node that a local ``$ref`` names (``#/components/…``), or the node itself; empty for anything else."""
    if not isinstance(node, dict) or depth > DEPTH_MAX:
        return {}
    reference = node.get("$ref")
    if not isinstance(reference, str):
        return node
    if not reference.startswith("#/"):
        return {}
    found: Any = document
    for key in reference[2:].split("/"):
        found = found.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return resolve(found, document, depth + 1)


def values(parameter: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """Texts to send for a parameter, its own examples first; empty where none can be made."""
    if "example" in parameter:
        return [_text(parameter["example"])]
    examples = parameter.get("examples")
    if isinstance(examples, dict) and examples:
        found = [_text(example["value"]) for entry in examples.values() if "value" in (example := resolve(entry, document))]
        if found:
            return found[:VALUES_MAX]
    # Swagger 2 has the schema's words on the parameter itself
    return of_schema(parameter.get("schema", parameter), document)


def of_schema(schema: Any, document: dict[str, Any], depth: int = 0) -> list[str]:
    """Texts that the schema allows: example, enum, const, default, else by its type, format and bounds."""
    schema = resolve(schema, document)
    if not schema or depth > DEPTH_MAX:
        return []
    for key, several in (("example", False), ("examples", True), ("enum", True), ("const", False), ("default", False)):
        given = schema.get(key)
        if several and isinstance(given, list) and given:
            return [_text(value) for value in given[:VALUES_MAX] if value is not None]
        if not several and given is not None:
            return [_text(given)]
    for key in ("anyOf", "oneOf", "allOf"):
        for choice in schema.get(key) or ():
            found = of_schema(choice, document, depth + 1)
            if found:
                return found
    return _of_type(schema, document, depth)


def _of_type(schema: dict[str, Any], document: dict[str, Any], depth: int) -> list[str]:
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if "integer" in kinds or "number" in kinds:
        return _numbers(schema)
    if "boolean" in kinds:
        return ["true", "false"]
    if "array" in kinds:
        return of_schema(schema.get("items"), document, depth + 1)
    if "string" in kinds:
        return _strings(schema)
    return []


def _numbers(schema: dict[str, Any]) -> list[str]:
    low, high = _bound(schema, "minimum", "exclusiveMinimum", 1), _bound(schema, "maximum", "exclusiveMaximum", -1)
    if low is None:
        low = 1 if high is None or high >= 1 else high - IDS + 1
    if high is None:
        high = low + IDS - 1
    if high < low:
        return []
    count = min(VALUES_MAX, high - low + 1)
    return [str(low + k * (high - low) // max(1, count - 1)) for k in range(count)]


def _bound(schema: dict[str, Any], inclusive: str, exclusive: str, inward: int) -> int | None:
    """A whole number inside the bound; OpenAPI 3.0 has ``exclusiveMinimum: true`` beside the minimum, 3.1 a number of its own."""
    value, beyond = schema.get(inclusive), schema.get(exclusive)
    if isinstance(beyond, int | float) and not isinstance(beyond, bool):
        value, beyond = beyond, True
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    whole = int(value) if int(value) == value else int(value // 1) + (inward > 0)
    return whole + inward if beyond is True and whole == value else whole


def _strings(schema: dict[str, Any]) -> list[str]:
    if schema.get("format") in FORMATS:
        return [FORMATS[schema["format"]]]
    if schema.get("pattern"):
        made = matching(str(schema["pattern"]), int(schema.get("minLength", 0)), schema.get("maxLength"))
        return [made] if made else []
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength", 4)
    if not isinstance(shortest, int) or not isinstance(longest, int) or shortest > 1000 or longest < 1:
        return []
    return [("test" * (shortest // 4 + 1))[: max(shortest, min(4, longest))]]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(_text(item) for item in value)
    return str(value)
