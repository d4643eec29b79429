"""Tools from plain typed functions: the schema of the arguments, and the arguments of a call.

Supported annotations: str, int, float, bool, Literal, Enum, list, dict, Optional, dataclasses, and
Annotated with a description. Ollama ignores most other keywords of JSON Schema.
"""

import dataclasses
import enum
import inspect
import json
import re
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from eudai.v1 import content_pb2 as pb

_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean"}
_DOCUMENTED = re.compile(
    r"^[ \t]*(?::param[ \t]+)?(\w+)(?:[ \t]*\([^)\n]*\))?[ \t]*:[ \t]+(\S.*)$", re.MULTILINE
)


def tool_from(function: Callable[..., Any]) -> pb.Tool:
    """The tool that calls a function, from its name, signature and docstring.

    The first paragraph of the docstring is the description of the tool. Lines such as
    "city: the name of the city" describe the parameters. Raises TypeError, which names the
    parameter, if an annotation is missing or not supported.

    >>> def weather(city: str, days: int = 1) -> str:
    ...     "Forecast the weather."
    >>> print(eudai.tool_from(weather).parameters_schema)
    {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, \
"required": ["city"]}
    """
    try:
        schema = _object_schema(parameters_of(function), function.__name__, function.__doc__)
    except RecursionError:
        raise TypeError(f"{function.__name__}: a dataclass contains itself") from None
    description = inspect.getdoc(function) or ""
    return pb.Tool(
        name=function.__name__,
        description=" ".join(description.split("\n\n")[0].split()),
        parameters_schema=json.dumps(schema),
    )


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of a function, or a field of a dataclass."""

    annotation: Any
    is_required: bool


def parameters_of(function: Callable[..., Any]) -> dict[str, Parameter]:
    """The parameters of a function by name."""
    name = getattr(function, "__name__", repr(function))
    hints = _hints(function, name)
    parameters = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{name}: parameter {parameter} cannot be passed by keyword")
        if parameter.name not in hints:
            raise TypeError(f"{name}: parameter {parameter.name} has no annotation")
        is_required = parameter.default is parameter.empty
        parameters[parameter.name] = Parameter(hints[parameter.name], is_required)
    return parameters


def fields_of(kind: type) -> dict[str, Parameter]:
    """The fields of a dataclass by name."""
    hints = _hints(kind, kind.__name__)
    missing = dataclasses.MISSING
    return {
        each.name: Parameter(
            hints[each.name], each.default is missing and each.default_factory is missing
        )
        for each in dataclasses.fields(kind)
        if each.init
    }


def schema_from(annotation: Any, name: str) -> dict[str, Any]:  # noqa: PLR0911 - a table
    """The JSON Schema of an annotation. `name` is what it annotates, for errors."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _SIMPLE:
        return {"type": _SIMPLE[annotation]}
    if origin is Annotated:
        texts = [text for text in arguments[1:] if isinstance(text, str)]
        description = {"description": texts[0]} if texts else {}
        return {**schema_from(arguments[0], name), **description}
    if origin is Literal:
        return _choices(list(arguments), name)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _choices([member.value for member in annotation], name)
    if annotation is list or origin is list:
        items = {"items": schema_from(arguments[0], name)} if arguments else {}
        return {"type": "array", **items}
    if annotation is dict or (origin is dict and arguments[0] is str):
        return {"type": "object"}
    if (inner := optional_of(annotation)) is not None:
        return {"anyOf": [schema_from(inner, name), {"type": "null"}]}
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return _object_schema(fields_of(annotation), name, "")
    raise TypeError(
        f"{name}: {annotation!r} is not supported; use str, int, float, bool, Literal, Enum, list, "
        "dict with keys of str, Optional, or a dataclass"
    )


def optional_of(annotation: Any) -> Any:
    """T for Optional[T]; otherwise None."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return None
    members = [each for each in get_args(annotation) if each is not type(None)]
    return members[0] if len(members) == 1 and len(get_args(annotation)) > 1 else None


def _object_schema(
    parameters: dict[str, Parameter], owner: str, docstring: str | None
) -> dict[str, Any]:
    texts = dict(_DOCUMENTED.findall(docstring or ""))
    properties = {}
    for name, parameter in parameters.items():
        annotation = parameter.annotation
        # An argument that may be left out need not be null.
        inner = None if parameter.is_required else optional_of(annotation)
        schema = schema_from(annotation if inner is None else inner, f"{owner}: parameter {name}")
        if name in texts and "description" not in schema:
            schema["description"] = texts[name]
        properties[name] = schema
    required = [name for name, parameter in parameters.items() if parameter.is_required]
    return {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
    }


def _choices(values: list[Any], name: str) -> dict[str, Any]:
    kinds = {type(value) for value in values}
    if len(kinds) != 1 or not kinds <= {str, int}:
        raise TypeError(f"{name}: the values must be all str or all int, not {values!r}")
    return {"type": _SIMPLE[kinds.pop()], "enum": values}


def _hints(owner: Any, name: str) -> dict[str, Any]:
    try:
        return get_type_hints(owner, include_extras=True)
    except NameError as error:
        raise TypeError(f"{name}: an annotation cannot be resolved: {error}") from error
