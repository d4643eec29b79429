"""GenerationService: runs a generation and sends its events, one by one or all at once."""

import asyncio
from contextlib import aclosing

from eudai.v1 import generation_service_pb2 as pb

from eudai_server.core.answer_checks import AnswerChecks
from eudai_server.core.errors import InvalidRequestError, ServiceError, Violation
from eudai_server.core.generation import Backend, Generation
from eudai_server.core.schema_checks import SchemaChecks
from eudai_server.rpc.services.generation_status import GenerationStatus
from eudai_server.rpc.services.response_stream import ResponseStream
from eudai_server.rpc.transport.call import Call
from eudai_server.rpc.wire.generation_request import generation_from, schemas_of
from eudai_server.rpc.wire.generation_response import GenerationBuilder
from eudai_server.rpc.wire.parsing import SMALL_REQUEST_BYTES_MAX
from eudai_server.rpc.wire.values import NANOS

GENERATION_ID_METADATA = "eudai-generation-id"
MODEL_METADATA = "eudai-model"


class GenerationService:
    """Implements GenerationService with a backend."""

    def __init__(
        self, backend: Backend, schema_checks: SchemaChecks, *, load_options: bool
    ) -> None:
        """`load_options` is whether the operator allows callers to set them."""
        self._backend = backend
        self._schema_checks = schema_checks
        self._load_options = load_options

    async def generate(self, request: pb.GenerateRequest, call: Call) -> None:
        """Stream the events as they happen."""
        generation = await self._accept(request, call)
        status = GenerationStatus(call)
        stream = ResponseStream(call, request.events, status)
        checks = AnswerChecks(generation, self._schema_checks)
        try:
            async with aclosing(stream.paced(self._backend.generate(generation))) as batches:
                async for batch in batches:
                    for event in await checks.apply(batch):
                        await stream.send(status.observe(event))
                    await stream.send_due()
        except ServiceError:
            await stream.flush()
            raise
        # The generation has freed its slot by now: the client may read slowly.
        await stream.finish()

    async def generate_once(
        self, request: pb.GenerateOnceRequest, call: Call
    ) -> pb.GenerateOnceResponse:
        """Combine the events into one response."""
        try:
            generation = await self._accept(request.request, call)
        except InvalidRequestError as error:
            raise _within_request(error) from None
        status = GenerationStatus(call)
        builder = GenerationBuilder()
        checks = AnswerChecks(generation, self._schema_checks)
        async with aclosing(self._backend.generate(generation)) as batches:
            async for batch in batches:
                for event in await checks.apply(batch):
                    builder.add(status.observe(event))
        return builder.build()

    async def _accept(self, request: pb.GenerateRequest, call: Call) -> Generation:
        """Validate and convert a request. Raises InvalidRequestError and other ServiceErrors."""
        _check_model(request, call)
        if request.ByteSize() > SMALL_REQUEST_BYTES_MAX:
            # Parsing took some milliseconds and validation will too; let other tasks run in
            # between.
            await asyncio.sleep(0)
        arrived_s = call.arrived_ns / NANOS
        generation = generation_from(
            request,
            id=call.id,
            arrived_s=arrived_s,
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
        call.metadata_to_send += ((GENERATION_ID_METADATA, call.id),)
        call.principal.require_model(generation.model)
        return generation.within(call.limits, arrived_s)

    async def _compile_schemas(self, request: pb.GenerateRequest, generation: Generation) -> None:
        """Raises InvalidRequestError if a schema does not compile within the limits."""
        schemas = schemas_of(request, generation)
        wrong = await self._schema_checks.compile(list(schemas.values()), generation.caller)
        if wrong:
            index, reason = wrong
            raise InvalidRequestError([Violation(list(schemas)[index], reason)])


def _check_model(request: pb.GenerateRequest, call: Call) -> None:
    """Require that the model in the metadata, by which a proxy may route, equals the request's."""
    routed = call.metadata(MODEL_METADATA)
    if routed is not None and routed != request.model:
        raise InvalidRequestError(
            [
                Violation(
                    "model",
                    f"must equal the metadata {MODEL_METADATA}; leave out the metadata or"
                    " correct it",
                )
            ]
        )


def _within_request(error: InvalidRequestError) -> InvalidRequestError:
    """The same violations, with paths that begin at GenerateOnceRequest."""
    return InvalidRequestError(
        [
            Violation(f"request.{violation.field}".rstrip("."), violation.description)
            for violation in error.violations
        ]
    )
