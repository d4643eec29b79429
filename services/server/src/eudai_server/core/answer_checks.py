"""Checks an answer against its output format and its tool schemas, and adds warnings to its events.

Ollama does not report these problems.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
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


async def reviewed(
    generation: Generation, batches: AsyncGenerator[Sequence[Event], None], checks: Checks
) -> AsyncGenerator[Sequence[Event], None]:
    """Add warnings about bad tool calls, and about an answer that breaks its format."""
    texts: list[str] = []
    called = False
    async with aclosing(batches):
        async for batch in batches:
            seen: list[Event] = []
            for event in batch:
                if isinstance(event, Finished) and generation.format and (texts or not called):
                    seen += await _format_warnings(generation, "".join(texts), checks)
                seen.append(event)
                if isinstance(event, ToolCall):
                    called = True
                    seen += await _call_warnings(generation, event, checks)
                elif (
                    isinstance(event, Delta) and event.channel is Channel.TEXT and generation.format
                ):
                    texts.append(event.text)
            yield seen


async def _format_warnings(
    generation: Generation, text: str, checks: Checks
) -> list[GenerationWarning]:
    wanted = generation.format
    schema = wanted.schema if isinstance(wanted, JsonSchema) else _ANY_JSON
    fits = await checks.fits(schema, text, generation.caller)
    if fits:
        return []
    message = "the answer does not match the format; it may have been cut off"
    if fits is None:
        message = "the answer could not be checked against the format within the limits"
    return [GenerationWarning(GenerationWarningCode.FORMAT_NOT_SATISFIED, message, "format")]


async def _call_warnings(
    generation: Generation, call: ToolCall, checks: Checks
) -> list[GenerationWarning]:
    tools = {tool.name: tool for tool in generation.tools}
    schema = tools[call.name].parameters_schema if call.name in tools else None
    if call.name not in tools:
        message = "the tool call names a tool that is not in the request"
    elif schema is None:
        return []
    else:
        fits = await checks.fits(schema, call.arguments_json, generation.caller)
        if fits:
            return []
        message = "the arguments of the tool call do not match the tool's schema"
        if fits is None:
            message = "the arguments of the tool call could not be checked within the limits"
    return [GenerationWarning(GenerationWarningCode.TOOL_CALL_INVALID, message, "tools", call.id)]
