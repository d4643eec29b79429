"""Finds the keywords of a tool's JSON Schema that Ollama drops. No I/O.

Ollama decodes the schema into its own types, one for the root and one for each property, and drops
all other keywords silently. It keeps everything under `items` and `$defs`.
"""

from collections.abc import Iterator
from typing import Any

# The fields of Ollama's `ToolFunctionParameters` and `ToolProperty`. Dropping $schema has no
# effect.
_KEPT_AT_THE_TOP = frozenset({"$schema", "type", "$defs", "items", "required", "properties"})
_KEPT_IN_A_PROPERTY = frozenset(
    {"anyOf", "type", "items", "description", "enum", "properties", "required"}
)


def dropped_keywords(schema: dict[str, Any]) -> frozenset[str]:
    """All keywords that Ollama drops, at any level."""
    dropped = schema.keys() - _KEPT_AT_THE_TOP
    for below in _subschemas(schema.get("properties"), None):
        dropped |= set(_dropped_in_property(below))
    return frozenset(dropped)


def _dropped_in_property(schema: dict[str, Any]) -> Iterator[str]:
    yield from schema.keys() - _KEPT_IN_A_PROPERTY
    for below in _subschemas(schema.get("properties"), schema.get("anyOf")):
        yield from _dropped_in_property(below)


def _subschemas(properties: object, choices: object) -> Iterator[dict[str, Any]]:
    """The subschemas that are objects; a schema may also be true or false."""
    below = [
        *(properties.values() if isinstance(properties, dict) else ()),
        *(choices if isinstance(choices, list) else ()),
    ]
    return (schema for schema in below if isinstance(schema, dict))
