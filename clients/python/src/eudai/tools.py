"""Runs the tools that a model calls, after checking the arguments."""

import asyncio
import dataclasses
import enum
import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from eudai.content import tool_message
from eudai.errors import ToolError
from eudai.results import ToolCall
from eudai.tool_schema import fields_of, optional_of, parameters_of
from eudai.v1 import content_pb2 as pb

ToolFunction = Callable[..., Any]


class Toolbox:
    """The functions that the model may call."""

    def __init__(self, functions: Sequence[ToolFunction | pb.Tool], *, send_errors: bool) -> None:
        """If `send_errors` is true, the model gets the text of a tool's error as its result.

        Otherwise the error is raised.
        """
        self._functions: dict[str, ToolFunction] = {}
        for function in functions:
            if isinstance(function, pb.Tool):
                raise TypeError(f"tool {function.name} must be a function, so that it can be run")
            self._functions[function.__name__] = function
        self._send_errors = send_errors

    def run(self, call: ToolCall) -> pb.Message:
        """Run one call; returns the message for the model."""
        try:
            function, arguments = self._prepare(call)
            return _message(call, function(**arguments))
        except Exception as error:  # noqa: BLE001 - a tool may raise anything
            return self._error_message(call, error)

    async def run_async(self, call: ToolCall) -> pb.Message:
        """Run one call: a coroutine function in this task, another function in a thread."""
        try:
            function, arguments = self._prepare(call)
            if inspect.iscoroutinefunction(function):
                pending: Awaitable[Any] = function(**arguments)
            else:
                pending = asyncio.to_thread(function, **arguments)
            return _message(call, await pending)
        except Exception as error:  # noqa: BLE001 - a tool may raise anything
            return self._error_message(call, error)

    def _prepare(self, call: ToolCall) -> tuple[ToolFunction, dict[str, Any]]:
        function = self._functions.get(call.name)
        if function is None:
            known = ", ".join(self._functions) or "none"
            raise ToolError(f"the model called the unknown tool {call.name!r}; tools: {known}")
        try:
            return function, arguments_from(function, call.arguments)
        except (TypeError, ValueError) as error:
            raise ToolError(
                f"the model called {call.name} with wrong arguments: {error}"
            ) from error

    def _error_message(self, call: ToolCall, error: Exception) -> pb.Message:
        if not self._send_errors:
            raise error
        return _message(call, f"error: {error}")


def arguments_from(function: ToolFunction, values: Any) -> dict[str, Any]:
    """The arguments for a function from a JSON object. Raises ValueError if they do not fit."""
    return _object_from(parameters_of(function), values, "arguments")


def _message(call: ToolCall, value: Any) -> pb.Message:
    text = value if isinstance(value, str) else json.dumps(value, default=_jsonable)
    return tool_message(call.id, text, call.name)


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(
        f"a tool must return JSON values, str or dataclasses, not {type(value).__name__}"
    )


def _object_from(parameters: dict[str, Any], values: Any, name: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ValueError(f"{name} must be an object")  # noqa: TRY004 - a wrong value of the model
    if unknown := values.keys() - parameters.keys():
        raise ValueError(f"{name} has the unknown key {min(unknown)!r}")
    for key, parameter in parameters.items():
        if parameter.is_required and key not in values:
            raise ValueError(f"{key} is missing")
    return {
        key: _value_from(parameters[key].annotation, value, key)
        for key, value in values.items()
        # A model may write null for an argument that it leaves out.
        if value is not None or parameters[key].is_required
    }


def _value_from(annotation: Any, value: Any, name: str) -> Any:  # noqa: PLR0911 - a table
    """The Python value of a JSON value."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _value_from(arguments[0], value, name)
    if (inner := optional_of(annotation)) is not None:
        return None if value is None else _value_from(inner, value, name)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{name} must be one of {list(arguments)}")
        return value
    if annotation is list or origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list")
        return [_value_from(arguments[0], each, name) for each in value] if arguments else value
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return annotation(value)
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return annotation(**_object_from(fields_of(annotation), value, name))
    return _simple_from(dict if origin is dict else annotation, value, name)


def _simple_from(kind: type, value: Any, name: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} must be {kind.__name__}, not {type(value).__name__}")
    return value
