"""A JSON Schema as text goes in; whether it is one, and whether a value fits it, comes out. No address in it is ever fetched."""

import json
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

import jsonschema_rs

SCHEMA_CHARS_MAX = 256 << 10


# Keywords whose values hold subschemas: one, a list of them, or a map of them by name.
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
    """A schema that holds. Patterns are matched in linear time, whatever a caller wrote."""

    def __init__(self, text: str) -> None:
        """Raises ValueError, saying why, where the text is no schema."""
        if len(text) > SCHEMA_CHARS_MAX:
            raise ValueError(f"must not be longer than {SCHEMA_CHARS_MAX} characters")
        try:
            schema = _loads(text)
        except (ValueError, RecursionError):
            raise ValueError("is no JSON") from None
        if not isinstance(schema, dict):
            raise ValueError("must be a JSON object")  # noqa: TRY004 - one kind of error for whatever is wrong with the text
        self.value = schema
        try:
            self._validator = jsonschema_rs.validator_for(
                schema, pattern_options=jsonschema_rs.RegexOptions(), offline=True
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"is no JSON Schema: {reason}") from None

    def fits(self, text: str) -> bool:
        """Whether a text is JSON that satisfies the schema."""
        try:
            return bool(self._validator.is_valid(_loads(text)))
        except (ValueError, RecursionError):
            return False

    def keywords(self, *, within: Collection[str] = _NESTED) -> frozenset[str]:
        """Every keyword it uses, in subschemas too, as far as those stand under one of the keywords `within`."""
        return frozenset(_keywords(self.value, within))


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


def is_json(text: str) -> bool:
    """Whether a text is one JSON value."""
    try:
        _loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _loads(text: str) -> Any:
    """JSON as everyone else reads it: Python alone takes NaN and Infinity."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
