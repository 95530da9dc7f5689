"""Tool schemas in the older form that Gemini's retired SDK declares: OpenAPI 3.0, which knows less than JSON Schema.

One type in capitals, and `nullable`; no alternatives, references or constants. What is lost makes a schema looser, but
for alternatives: of several, the first is declared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memory.messages import Wire

_KEPT = ("description", "required", "minItems", "maxItems")
_FORMATS = frozenset({"int32", "int64", "float", "double", "date-time"})
"""What the API takes; for any other it answers 400."""
_DEEPEST = 8
"""A reference inside a reference is followed so often; a schema may contain itself."""


def declaration(function: Wire) -> dict[str, Any]:
    """Return the declaration of a function in OpenAI chat form.

    One without parameters is declared without any, because the API rejects an object without properties.
    """
    schema = function.get("parameters") or {}
    declared: dict[str, Any] = {
        "name": function["name"],
        "description": function.get("description") or function["name"],
    }
    if not schema.get("properties"):
        return declared
    return declared | {"parameters": _converted(schema, schema.get("$defs") or {}, _DEEPEST)}


def _converted(schema: Wire, definitions: Wire, depth: int) -> dict[str, Any]:
    if "$ref" in schema:
        depth -= 1
    schema = _resolved(schema, definitions, depth)
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        return _first(schema, alternatives, definitions, depth)
    kind, is_nullable = _kind(schema)
    converted: dict[str, Any] = {name: schema[name] for name in _KEPT if name in schema}
    converted["type"] = kind.upper()
    if is_nullable:
        converted["nullable"] = True
    if kind == "array":
        converted["items"] = _converted(schema.get("items") or {"type": "string"}, definitions, depth)
    if schema.get("properties"):
        properties = schema["properties"].items()
        converted["properties"] = {name: _converted(inner, definitions, depth) for name, inner in properties}
    return {**converted, **_restricted(schema, kind)}


def _resolved(schema: Wire, definitions: Wire, depth: int) -> Wire:
    """Return the schema with what it refers to written out; what it says itself goes first."""
    if (reference := schema.get("$ref")) is None:
        return schema
    target = definitions.get(str(reference).rpartition("/")[2], {}) if depth > 0 else {}
    own = {name: value for name, value in schema.items() if name != "$ref"}
    return {"type": "object", **target, **own}


def _first(schema: Wire, alternatives: Sequence[Wire], definitions: Wire, depth: int) -> dict[str, Any]:
    real = [alternative for alternative in alternatives if alternative.get("type") != "null"]
    around = {name: value for name, value in schema.items() if name not in ("anyOf", "oneOf")}
    converted = _converted({**(real or [{"type": "string"}])[0], **around}, definitions, depth)
    return converted | ({"nullable": True} if len(real) < len(alternatives) else {})


def _kind(schema: Wire) -> tuple[str, bool]:
    """Return the type and whether null is allowed beside it."""
    default = "string" if "enum" in schema or "const" in schema else "array" if "items" in schema else "object"
    given = schema.get("type", default)
    kinds = [given] if isinstance(given, str) else list(given)
    return next((kind for kind in kinds if kind != "null"), "string"), "null" in kinds


def _restricted(schema: Wire, kind: str) -> Mapping[str, Any]:
    """Return what narrows a plain value: its format, or the texts that are allowed."""
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    if values and kind == "string":
        return {"format": "enum", "enum": [str(value) for value in values if value is not None]}
    return {"format": schema["format"]} if schema.get("format") in _FORMATS else {}
