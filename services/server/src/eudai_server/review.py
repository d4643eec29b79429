"""Batches of events go in; the same, with the warnings that Ollama keeps to itself, come out."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from eudai_server.events import (
    Channel,
    Delta,
    Event,
    Finished,
    GenerationWarning,
    GenerationWarningCode,
    ToolCall,
)
from eudai_server.generation import AnyJson, Generation, JsonSchema
from eudai_server.schema import Schema, is_json


async def reviewed(
    generation: Generation, batches: AsyncGenerator[Sequence[Event], None]
) -> AsyncGenerator[Sequence[Event], None]:
    """Warn of what the request asked for in vain, of calls that fit no tool, and of an answer that is not of its format."""
    schemas = {
        tool.name: Schema(tool.parameters_schema) if tool.parameters_schema else None
        for tool in generation.tools
    }
    texts: list[str] = []
    called = False
    if generation.warnings:
        yield generation.warnings
    async with aclosing(batches):
        async for batch in batches:
            seen: list[Event] = []
            for event in batch:
                if (
                    isinstance(event, Finished)
                    and generation.format
                    and (texts or not called)
                    and not _satisfied(generation.format, "".join(texts))
                ):
                    seen.append(_NOT_SATISFIED)
                seen.append(event)
                if isinstance(event, ToolCall):
                    called = True
                    seen += _complaints(event, schemas)
                elif (
                    isinstance(event, Delta) and event.channel is Channel.TEXT and generation.format
                ):
                    texts.append(event.text)
            yield seen


_NOT_SATISFIED = GenerationWarning(
    GenerationWarningCode.FORMAT_NOT_SATISFIED,
    "the answer does not satisfy the format; it may have been cut off",
    "format",
)


def _satisfied(format: AnyJson | JsonSchema, text: str) -> bool:  # noqa: A002 - the proto's word
    return Schema(format.text).fits(text) if isinstance(format, JsonSchema) else is_json(text)


def _complaints(call: ToolCall, schemas: dict[str, Schema | None]) -> list[Event]:
    if call.name not in schemas:
        message = "the call names no tool of the request"
    else:
        schema = schemas[call.name]
        if schema is None or schema.fits(call.arguments_json):
            return []
        message = "the arguments of the call do not fit the tool's schema"
    return [GenerationWarning(GenerationWarningCode.TOOL_CALL_INVALID, message, "tools", call.id)]
