"""Warns about the keywords of a request's JSON Schemas that Ollama ignores (0.32.15). No I/O."""

from collections.abc import Iterator
from typing import Any

from eudai_server.core.events import GenerationWarning, GenerationWarningCode
from eudai_server.core.generation import Generation, JsonSchema

# A warning lists at most this many keywords.
LISTED_MAX = 16

# Ollama decodes the schema of a tool into its own types, one for the root and one for each
# property, and drops all other keywords. It keeps everything under `items` and `$defs`. These are
# the fields of its `ToolFunctionParameters` and `ToolProperty`; dropping $schema has no effect.
_KEPT_AT_THE_ROOT = frozenset({"$schema", "type", "$defs", "items", "required", "properties"})
_KEPT_IN_A_PROPERTY = frozenset(
    {"anyOf", "type", "items", "description", "enum", "properties", "required"}
)

# Keywords that llama.cpp ignores when it converts the schema of a format to a grammar.
_IGNORED_IN_A_FORMAT = frozenset(
    {
        "not", "if", "then", "else", "patternProperties", "propertyNames", "uniqueItems",
        "contains", "minContains", "maxContains", "multipleOf", "minProperties", "maxProperties",
        "dependentRequired", "dependentSchemas", "unevaluatedProperties", "unevaluatedItems",
    }
)  # fmt: skip


def keyword_warnings(generation: Generation) -> list[GenerationWarning]:
    """A warning for each schema with keywords that Ollama ignores: of tools, then of the format."""
    ignored = {
        f"tools[{index}].parameters_schema": _dropped_from_tool(tool.parameters_schema.value)
        for index, tool in enumerate(generation.tools)
        if tool.parameters_schema
    }
    if isinstance(generation.format, JsonSchema):
        # The server's own schema of a message type has none of these keywords.
        keywords = generation.format.schema.keywords()
        ignored["format.json_schema"] = keywords & _IGNORED_IN_A_FORMAT
    return [_warning(field, keywords) for field, keywords in ignored.items() if keywords]


def _warning(field: str, keywords: frozenset[str]) -> GenerationWarning:
    message = f"Ollama ignores these keywords: {', '.join(sorted(keywords)[:LISTED_MAX])}"
    return GenerationWarning(GenerationWarningCode.OPTION_IGNORED, message, field)


def _dropped_from_tool(schema: dict[str, Any]) -> frozenset[str]:
    """All keywords that Ollama drops, at any level."""
    dropped = schema.keys() - _KEPT_AT_THE_ROOT
    for below in _subschemas(schema.get("properties"), None):
        dropped |= set(_dropped_from_property(below))
    return frozenset(dropped)


def _dropped_from_property(schema: dict[str, Any]) -> Iterator[str]:
    yield from schema.keys() - _KEPT_IN_A_PROPERTY
    for below in _subschemas(schema.get("properties"), schema.get("anyOf")):
        yield from _dropped_from_property(below)


def _subschemas(properties: object, choices: object) -> Iterator[dict[str, Any]]:
    """The subschemas that are objects; a schema may also be true or false."""
    below = [
        *(properties.values() if isinstance(properties, dict) else ()),
        *(choices if isinstance(choices, list) else ()),
    ]
    return (schema for schema in below if isinstance(schema, dict))
