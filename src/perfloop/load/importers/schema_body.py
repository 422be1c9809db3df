"""A JSON value that a schema allows, for request bodies: objects with what is required, arrays of the least length, the schema's own examples first."""

from __future__ import annotations

from typing import Any

from perfloop.load.importers.patterns import matching
from perfloop.load.importers.schema_values import DEPTH_MAX, FORMATS, resolve

PROPERTIES_MAX = 100
ITEMS_MAX = 50


class NoValueError(Exception):
    """The schema allows nothing that can be made here."""


def value_of(schema: Any, document: dict[str, Any], number: int = 0, depth: int = 0) -> Any:
    """A value that the schema allows; ``number`` chooses among examples and counts up numbers, so that several bodies differ. ``NoValueError`` where none can be made."""
    if schema is True or schema == {}:
        return "test"
    schema = resolve(schema, document)
    if not schema or depth > DEPTH_MAX:
        raise NoValueError
    if "const" in schema:
        return schema["const"]
    for key in ("examples", "enum"):
        given = schema.get(key)
        if isinstance(given, list) and given:
            return given[number % len(given)]
    if "example" in schema:
        return schema["example"]
    if "default" in schema and schema["default"] is not None:
        return schema["default"]
    if isinstance(schema.get("allOf"), list):
        return value_of(_all_of(schema, document, depth), document, number, depth + 1)
    for key in ("oneOf", "anyOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return _choice(schema, key, document, number, depth)
    return _typed(schema, document, number, depth)


def _typed(schema: dict[str, Any], document: dict[str, Any], number: int, depth: int) -> Any:
    kinds = schema.get("type")
    kind = next((k for k in kinds if k != "null"), "null") if isinstance(kinds, list) and kinds else kinds
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string" if {"pattern", "format", "minLength"} & set(schema) else None
    match kind:
        case "object":
            return _object(schema, document, number, depth)
        case "array":
            count = min(ITEMS_MAX, max(1 if schema.get("maxItems", 1) else 0, int(schema.get("minItems", 0))))
            if schema.get("minItems", 0) > ITEMS_MAX:
                raise NoValueError
            items = [value_of(schema.get("items", True), document, number + i, depth + 1) for i in range(count)]
            if schema.get("uniqueItems") and len({repr(item) for item in items}) < len(items):
                raise NoValueError
            return items
        case "integer" | "number":
            return _number(schema, number, whole=kind == "integer")
        case "boolean":
            return number % 2 == 0
        case "string":
            return _string(schema, number)
        case "null":
            return None
    return "test"


def _object(schema: dict[str, Any], document: dict[str, Any], number: int, depth: int) -> dict[str, Any]:
    """What is required, and what has an example; what is read-only belongs to answers."""
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = {str(name) for name in schema.get("required") or ()}
    if len(required) > PROPERTIES_MAX:
        raise NoValueError
    made: dict[str, Any] = {}
    for name, part in properties.items():
        resolved = resolve(part, document)
        if resolved.get("readOnly") or (name not in required and not ({"example", "examples", "default", "const"} & set(resolved))):
            continue
        made[name] = value_of(part, document, number, depth + 1)
    more = schema.get("additionalProperties", True)
    for name in sorted(required - set(properties)):
        made[name] = value_of(more if isinstance(more, dict) else True, document, number, depth + 1)
    missing = int(schema.get("minProperties", 0)) - len(made)
    for name, part in properties.items():
        if missing > 0 and name not in made:
            made[name], missing = value_of(part, document, number, depth + 1), missing - 1
    return made


def _choice(schema: dict[str, Any], key: str, document: dict[str, Any], number: int, depth: int) -> Any:
    """One of the choices, together with what stands beside them; null only where nothing else can be made."""
    beside = {k: v for k, v in schema.items() if k not in ("oneOf", "anyOf", "discriminator")}
    choices = [resolve(choice, document) for choice in schema[key]]
    for choice in sorted(choices, key=lambda c: c.get("type") == "null"):
        try:
            merged = _merged([beside, choice], document) if set(beside) - {"title", "description", "nullable"} else choice
            return value_of(merged, document, number, depth + 1)
        except NoValueError:
            continue
    raise NoValueError


def _all_of(schema: dict[str, Any], document: dict[str, Any], depth: int) -> dict[str, Any]:
    parts = [{k: v for k, v in schema.items() if k != "allOf"}]
    for part in schema["allOf"]:
        part = resolve(part, document)
        parts.append(_all_of(part, document, depth + 1) if "allOf" in part and depth < DEPTH_MAX else part)
    return _merged(parts, document)


def _merged(parts: list[dict[str, Any]], document: dict[str, Any]) -> dict[str, Any]:
    """Schemas that hold together: properties and required names added up, the narrower of other words by the last."""
    merged: dict[str, Any] = {}
    for part in (resolve(part, document) for part in parts):
        for key, word in part.items():
            if key == "properties" and isinstance(word, dict):
                merged["properties"] = {**merged.get("properties", {}), **word}
            elif key == "required" and isinstance(word, list):
                merged["required"] = [*merged.get("required", []), *word]
            elif key in ("minimum", "minLength", "minItems") and key in merged:
                merged[key] = max(merged[key], word)
            elif key in ("maximum", "maxLength", "maxItems") and key in merged:
                merged[key] = min(merged[key], word)
            else:
                merged[key] = word
    return merged


def _number(schema: dict[str, Any], number: int, whole: bool) -> float:
    step = _bound(schema, "multipleOf") or (1.0 if whole else 0.5)
    low, high = _bound(schema, "minimum"), _bound(schema, "maximum")
    above, below = _bound(schema, "exclusiveMinimum"), _bound(schema, "exclusiveMaximum")
    if schema.get("exclusiveMinimum") is True:  # OpenAPI 3.0 has it beside the minimum
        above = low
    if schema.get("exclusiveMaximum") is True:
        below = high
    floor = max([v for v in (low, above) if v is not None], default=None)
    ceiling = min([v for v in (high, below) if v is not None], default=None)
    start = floor if floor is not None else (1.0 if ceiling is None or ceiling >= 1 + step else ceiling - 20 * step)
    first = -(-start // step) * step
    if above is not None and first <= above:
        first += step
    fits = [first + i * step for i in range(20)]
    fits = [v for v in fits if (ceiling is None or v <= ceiling) and (below is None or v < below)]
    if not fits and floor is not None and ceiling is not None and not whole and "multipleOf" not in schema and floor < ceiling:
        fits = [(floor + ceiling) / 2]
    if not fits:
        raise NoValueError
    chosen = fits[number % len(fits)]
    return int(chosen) if whole or float(chosen).is_integer() else float(chosen)


def _bound(schema: dict[str, Any], name: str) -> float | None:
    value = schema.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _string(schema: dict[str, Any], number: int) -> str:
    shortest, longest = int(schema.get("minLength", 0)), schema.get("maxLength")
    if schema.get("format") in FORMATS and "pattern" not in schema:
        return FORMATS[schema["format"]]
    if schema.get("pattern"):
        made = matching(str(schema["pattern"]), shortest, longest)
        if made is None:
            raise NoValueError
        return made
    if shortest > 10_000:
        raise NoValueError
    text = f"test{number}" if number else "test"
    text += "x" * (shortest - len(text))
    return text if longest is None else text[: int(longest)]
