"""JSON Schemas of a caller: parsed once, within limits, and compiled. No address in one is fetched.

Some schemas take exponential time to check a value against, and some patterns gigabytes to
compile. `is_cheap` tells those that provably do not; `schema_checks` compiles all others in
another process.
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
# Of the regular expression library: one compiled pattern, and its cache while it matches.
PATTERN_BYTES_MAX = 1 << 20

# Checking against these takes time in proportion to the schema and to the value, so that a check
# of so many values of the schema times so many characters takes some milliseconds at most.
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
    """A JSON Schema as a caller wrote it, so that the order of properties is kept."""

    def __init__(self, text: str) -> None:
        """Parse a schema; compile it too if that is cheap. Raises ValueError, which says why."""
        self.text = text
        self.value = _parse(text)
        self._values = _judge_structure(self.value)
        self.is_cheap = self._values <= CHEAP_VALUES_MAX and self.keywords() <= _CHEAP
        self._validator = compile_schema(self.value) if self.is_cheap else None

    def is_cheap_for(self, text: str) -> bool:
        """Whether `fits` may be asked about a text."""
        return self.is_cheap and self._values * len(text) <= CHEAP_COST_MAX

    def fits(self, text: str) -> bool:
        """Whether a text is JSON that satisfies the schema, which must be cheap."""
        assert self._validator is not None  # noqa: S101 - as documented
        return fits(self._validator, text)

    def keywords(self, *, within: Collection[str] = _NESTED) -> frozenset[str]:
        """Every keyword it uses, in subschemas under one of the keywords `within` too."""
        return frozenset(_keywords(self.value, within))


def compile_schema(schema: dict[str, Any]) -> "jsonschema_rs.Validator":
    """A validator, which matches patterns in linear time. Raises ValueError, which says why."""
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
    """Whether a text is JSON that satisfies a schema."""
    try:
        return bool(validator.is_valid(loads(text)))
    except (ValueError, RecursionError):
        return False


def loads(text: str) -> Any:
    """JSON as RFC 8259 has it. Python alone takes NaN and Infinity. Raises ValueError."""
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
    """A bound on the number of values in a JSON text, known before it is parsed."""
    return 1 + sum(map(text.count, ",[{"))


def _judge_structure(schema: dict[str, Any]) -> int:
    """The number of values in a schema. Raises ValueError where it is too deep, or for its patterns."""
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
