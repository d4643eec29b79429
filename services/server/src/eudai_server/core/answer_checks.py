"""Checks an answer against its output format and its tool schemas, and adds warnings to its events.

The backend does not report these problems.
"""

from collections.abc import Sequence
from typing import Protocol

from eudai_server.core.events import (
    Channel,
    Delta,
    Event,
    Finished,
    GenerationWarning,
    GenerationWarningCode,
    ToolCall,
)
from eudai_server.core.generation import Generation, JsonSchema
from eudai_server.core.json_schema import Schema

_ANY_JSON = Schema("{}")


class Checks(Protocol):
    """Checks texts against schemas."""

    async def fits(self, schema: Schema, text: str, caller: str) -> bool | None:
        """Whether a text is JSON that matches a schema; None if the check exceeded its limits."""
        ...


class AnswerChecks:
    """Checks one answer as its events arrive."""

    def __init__(self, generation: Generation, checks: Checks) -> None:
        """`generation` has the format and the tools."""
        self._generation = generation
        self._checks = checks
        self._texts: list[str] = []
        self._called = False

    async def apply(self, batch: Sequence[Event]) -> Sequence[Event]:
        """The events of a batch, with warnings about bad tool calls and about a broken format."""
        if not self._generation.format and ToolCall not in map(type, batch):
            return batch
        events: list[Event] = []
        for event in batch:
            if isinstance(event, Finished):
                events += await self._format_warnings()
            events.append(event)
            if isinstance(event, ToolCall):
                self._called = True
                events += await self._call_warnings(event)
            elif isinstance(event, Delta) and event.channel is Channel.TEXT:
                self._texts.append(event.text)
        return events

    async def _format_warnings(self) -> list[GenerationWarning]:
        wanted = self._generation.format
        if not wanted or (self._called and not self._texts):
            return []
        schema = wanted.schema if isinstance(wanted, JsonSchema) else _ANY_JSON
        fits = await self._checks.fits(schema, "".join(self._texts), self._generation.caller)
        if fits:
            return []
        message = "the answer does not match the format; it may have been cut off"
        if fits is None:
            message = "the answer could not be checked against the format within the limits"
        return [GenerationWarning(GenerationWarningCode.FORMAT_NOT_SATISFIED, message, "format")]

    async def _call_warnings(self, call: ToolCall) -> list[GenerationWarning]:
        tools = {tool.name: tool for tool in self._generation.tools}
        if call.name not in tools:
            return [_invalid_call(call, "the tool call names a tool that is not in the request")]
        schema = tools[call.name].parameters_schema
        if schema is None:
            return []
        fits = await self._checks.fits(schema, call.arguments_json, self._generation.caller)
        if fits:
            return []
        message = "the arguments of the tool call do not match the tool's schema"
        if fits is None:
            message = "the arguments of the tool call could not be checked within the limits"
        return [_invalid_call(call, message)]


def _invalid_call(call: ToolCall, message: str) -> GenerationWarning:
    return GenerationWarning(GenerationWarningCode.TOOL_CALL_INVALID, message, "tools", call.id)
