"""Parses and compiles the JSON Schemas of callers, within limits.

Never fetches a referenced schema.

Checking a value against some schemas takes exponential time, and compiling some patterns takes
gigabytes. `Schema.is_cheap_for` recognises schemas that provably need neither; `schema_checks`
handles all others in another process.
"""

import json
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

import jsonschema_rs

SCHEMA_CHARS_MAX = 256 << 10
VALUES_MAX = 20_000
DEPTH_MAX = 128
PATTERNS_MAX = 100
PATTERN_CHARS_MAX = 1024
# Limits of the regular expression library: a compiled pattern, and its cache while matching.
PATTERN_BYTES_MAX = 1 << 20

# Checking against schemas of these keywords takes time in proportion to the number of values in the
# schema times the number of characters in the text. Up to this product, it takes some milliseconds.
CHEAP_COST_MAX = 50_000
CHEAP_VALUES_MAX = 500
_CHEAP = frozenset(
    {
        "type", "properties", "required", "items", "enum", "const", "anyOf", "allOf", "oneOf",
        "additionalProperties", "minLength", "maxLength", "minimum", "maximum",
        "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "minProperties",
        "maxProperties", "title", "description", "default", "examples", "$comment",
    }
)  # fmt: skip

# Keywords whose values contain subschemas: one, a list, or a map by name.
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_NESTED = _NAMED | {
    "items",
    "additionalProperties",
    "anyOf",
    "oneOf",
    "allOf",
    "prefixItems",
    "contains",
    "not",
    "if",
    "then",
    "else",
}


class Schema:
    """A JSON Schema, with its original text, because the order of properties matters."""

    def __init__(self, text: str) -> None:
        """Parse a schema; compile it if that is cheap. Raises ValueError with what to change."""
        self.text = text
        self.value = _parse(text)
        self._values = _judge_structure(self.value)
        self.is_cheap = self._values <= CHEAP_VALUES_MAX and self.keywords() <= _CHEAP
        self._validator = compile_schema(self.value) if self.is_cheap else None

    def is_cheap_for(self, text: str) -> bool:
        """Whether `fits` may be called with a text."""
        return self.is_cheap and self._values * len(text) <= CHEAP_COST_MAX

    def fits(self, text: str) -> bool:
        """Whether a text is JSON that matches the schema, which must be cheap."""
        assert self._validator is not None  # noqa: S101 - as documented
        return fits(self._validator, text)

    def keywords(self, *, within: Collection[str] = _NESTED) -> frozenset[str]:
        """The keywords of the schema, including those of subschemas under the keywords `within`."""
        return frozenset(_keywords(self.value, within))


def compile_schema(schema: dict[str, Any]) -> "jsonschema_rs.Validator":
    """A validator that matches patterns in linear time. Raises ValueError with what to change."""
    options = jsonschema_rs.RegexOptions(
        size_limit=PATTERN_BYTES_MAX, dfa_size_limit=PATTERN_BYTES_MAX
    )
    try:
        return jsonschema_rs.validator_for(schema, pattern_options=options, offline=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        reason = (
            str(error)
            .splitlines()[0][:200]
            .replace('not a "regex"', "invalid or too large regular expression")
        )
        raise ValueError(f"is not a valid JSON Schema: {reason}") from None


def fits(validator: "jsonschema_rs.Validator", text: str) -> bool:
    """Whether a text is JSON that matches a schema."""
    try:
        return bool(validator.is_valid(loads(text)))
    except (ValueError, RecursionError):
        return False


def loads(text: str) -> Any:
    """Parse JSON as RFC 8259 defines it: rejects NaN and Infinity, unlike json.loads.

    Raises ValueError.
    """
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _parse(text: str) -> dict[str, Any]:
    if len(text) > SCHEMA_CHARS_MAX:
        raise ValueError(f"must not be longer than {SCHEMA_CHARS_MAX} characters")
    if values_at_most(text) > VALUES_MAX:
        raise ValueError(
            f"must not have more than {VALUES_MAX} values, counted by the characters , [ and {{"
        )
    try:
        schema = loads(text)
    except ValueError:
        raise ValueError("is not valid JSON") from None
    except RecursionError:
        raise ValueError(f"must not be nested deeper than {DEPTH_MAX} levels") from None
    if not isinstance(schema, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - callers expect ValueError
    return schema


def values_at_most(text: str) -> int:
    """An upper bound of the number of values in a JSON text, without parsing it."""
    return 1 + sum(map(text.count, ",[{"))


def _judge_structure(schema: dict[str, Any]) -> int:
    """The number of values in a schema. Raises ValueError if it is too deep or for its patterns."""
    level: list[Any] = [schema]
    values = patterns = depth = 0
    while level:
        depth += 1
        if depth > DEPTH_MAX:
            raise ValueError(f"must not be nested deeper than {DEPTH_MAX} levels")
        values += len(level)
        for pattern in _patterns(level):
            patterns += 1
            if len(pattern) > PATTERN_CHARS_MAX:
                raise ValueError(
                    f"must not have a pattern of more than {PATTERN_CHARS_MAX} characters"
                )
        level = [child for value in level for child in _children(value)]
    if patterns > PATTERNS_MAX:
        raise ValueError(f"must not have more than {PATTERNS_MAX} patterns")
    return values


def _children(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _patterns(values: list[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, dict):
            pattern, named = value.get("pattern"), value.get("patternProperties")
            if isinstance(pattern, str):
                yield pattern
            if isinstance(named, dict):
                yield from named


def _keywords(schema: object, within: Collection[str]) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        yield keyword
        if keyword in within:
            named = isinstance(value, dict) and keyword in _NAMED
            for subschema in (
                value.values() if named else value if isinstance(value, list) else [value]
            ):
                yield from _keywords(subschema, within)
