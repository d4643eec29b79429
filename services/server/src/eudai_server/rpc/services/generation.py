"""GenerationService: decodes a request, generates, and encodes the events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from eudai.v1 import generation_service_pb2 as pb

from eudai_server.core.answer_checks import reviewed
from eudai_server.core.errors import InvalidRequestError, Violation
from eudai_server.core.events import Delta, Finished, Progress, ToolCall
from eudai_server.core.generation import Backend, Generation
from eudai_server.core.schema_checks import SchemaChecks
from eudai_server.rpc.services.pacing import beating, gathered
from eudai_server.rpc.transport.call import Call
from eudai_server.rpc.wire.generation_request import generation_from, schemas_of
from eudai_server.rpc.wire.generation_response import (
    NANOS,
    duration_from,
    generation_from as whole_from,
    response_from,
)
from eudai_server.rpc.wire.parsing import SMALL_REQUEST_BYTES_MAX, parse
from eudai_server.rpc.wire.violations import seconds_of

MODEL = "eudai-model"


class GenerationService:
    """Implements GenerationService with a backend."""

    def __init__(
        self, backend: Backend, schema_checks: SchemaChecks, *, load_options: bool
    ) -> None:
        """`load_options` is whether the operator allows callers to set them."""
        self._backend = backend
        self._schema_checks = schema_checks
        self._load_options = load_options

    async def generate(self, data: bytes, call: Call) -> None:
        """Stream the events as they happen."""
        request = parse(pb.GenerateRequest, data)
        flush_interval_s = seconds_of(request.events.flush_interval)
        heartbeat_s = seconds_of(request.events.heartbeat_interval)
        progress = request.events.progress or heartbeat_s > 0
        responses = self._responses(request, call)
        if flush_interval_s:
            responses = gathered(responses, flush_interval_s)
        if heartbeat_s:
            responses = beating(responses, heartbeat_s, lambda: _beat(call))
        finished = None
        async with aclosing(responses):
            async for response in responses:
                if response.HasField("finished"):
                    finished = response
                elif progress or not response.HasField("progress"):
                    await _write(response, call)
        # Sent only after the generation has freed its slot, because the client may read slowly.
        if finished:
            await _write(finished, call)

    async def generate_once(self, data: bytes, call: Call) -> None:
        """Combine the events into one response."""
        request = parse(pb.GenerateOnceRequest, data).request
        try:
            async with aclosing(self._responses(request, call)) as responses:
                whole = whole_from([response async for response in responses])
        except InvalidRequestError as error:
            raise InvalidRequestError(
                [
                    Violation(f"request.{violation.field}".rstrip("."), violation.description)
                    for violation in error.violations
                ]
            ) from None
        answer = pb.GenerateOnceResponse(generation=whole)
        await call.write(answer.SerializeToString(), generation=True)

    async def _responses(
        self, request: pb.GenerateRequest, call: Call
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        _check_model(request, call)
        if request.ByteSize() > SMALL_REQUEST_BYTES_MAX:
            # Parsing took some milliseconds and validation will too; let other tasks run in
            # between.
            await asyncio.sleep(0)
        generation = generation_from(
            request,
            id=call.id,
            arrived_s=call.arrived_ns / NANOS,
            load_options=self._load_options,
            caller=call.caller,
            deadline_s=call.deadline_s,
        )
        # Only after validation, because it limits the length of the labels.
        call.fields |= {
            "generation_id": call.id,
            "model": request.model,
            "labels": dict(request.labels),
        }
        await self._compile_schemas(request, generation)
        first_output_ns = None
        events = self._backend.generate(generation)
        async with aclosing(reviewed(generation, events, self._schema_checks)) as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, Progress):
                        call.phase = pb.GenerationPhase.Value(f"GENERATION_PHASE_{event.phase}")
                        call.requests_ahead = event.requests_ahead
                    elif isinstance(event, Delta | ToolCall):
                        call.phase = pb.GENERATION_PHASE_GENERATING
                        first_output_ns = first_output_ns or call.elapsed_ns
                    elif isinstance(event, Finished):
                        _finish(event, call)
                    yield response_from(
                        event,
                        id=call.id,
                        elapsed_ns=call.elapsed_ns,
                        first_output_ns=first_output_ns,
                    )

    async def _compile_schemas(self, request: pb.GenerateRequest, generation: Generation) -> None:
        """Raises InvalidRequestError if a schema does not compile within the limits."""
        schemas = schemas_of(request, generation)
        wrong = await self._schema_checks.compile(list(schemas.values()), generation.caller)
        if wrong:
            index, reason = wrong
            raise InvalidRequestError([Violation(list(schemas)[index], reason)])


async def _write(response: pb.GenerateResponse, call: Call) -> None:
    await call.write(response.SerializeToString(), generation=True)
    call.output_sent = (
        call.output_sent or response.HasField("delta") or response.HasField("tool_call")
    )


def _beat(call: Call) -> pb.GenerateResponse:
    progress = pb.GenerationProgress(
        phase=call.phase,
        requests_ahead=call.requests_ahead,
        elapsed=duration_from(call.elapsed_ns),
    )
    return pb.GenerateResponse(progress=progress)


def _check_model(request: pb.GenerateRequest, call: Call) -> None:
    """Require that the model in the metadata, by which a proxy may route, equals the request's."""
    routed = call.metadata(MODEL)
    if routed is not None and routed != request.model:
        raise InvalidRequestError(
            [
                Violation(
                    "model",
                    f"must equal the metadata {MODEL}; leave out the metadata or correct it",
                )
            ]
        )


def _finish(finished: Finished, call: Call) -> None:
    tokens = {
        "eudai-input-tokens": finished.usage.input_tokens,
        "eudai-output-tokens": finished.usage.output_tokens,
    }
    known = {name: str(count) for name, count in tokens.items() if count is not None}
    call.set_trailers(("eudai-finish-reason", str(finished.reason)), *known.items())
    call.fields |= {"finish_reason": finished.reason, **known}
