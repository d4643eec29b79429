"""A small gRPC server that keeps the contract, without Ollama: for checks of clients.

Each method can be overridden, to answer otherwise.
"""

import itertools
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from eudai.v1 import (
    content_pb2,
    embedding_service_pb2 as embedding_pb,
    embedding_service_pb2_grpc as embedding_rpc,
    generation_service_pb2 as pb,
    generation_service_pb2_grpc as generation_rpc,
    model_service_pb2 as model_pb,
    model_service_pb2_grpc as model_rpc,
    server_service_pb2 as server_pb,
    server_service_pb2_grpc as server_rpc,
)
from eudai_server.core.errors import ModelNotFoundError, Reason, ServiceError, Violation
from eudai_server.rpc.wire.status import status_from, trailers_from
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

MODEL = model_pb.Model(
    name="alpha:latest",
    digest="sha256:" + "a" * 64,
    capabilities=[model_pb.CAPABILITY_COMPLETION],
)
EMBEDDING_MODEL = model_pb.Model(
    name="vectors:latest",
    digest="sha256:" + "b" * 64,
    capabilities=[model_pb.CAPABILITY_EMBEDDING],
)
MODELS = {"alpha": MODEL, "vectors": EMBEDDING_MODEL}
PIECES = ("Once", " upon", " a", " time")
SERVICES = ("GenerationService", "EmbeddingService", "ModelService", "ServerService")
STREAM_STEP_S = 0.005
REQUEST_ID = "eudai-request-id"


# The stubs declare every method of the contract as abstract; those left out are UNIMPLEMENTED.
_Services: Any = type(
    "_Services",
    (
        generation_rpc.GenerationServiceServicer,
        embedding_rpc.EmbeddingServiceServicer,
        model_rpc.ModelServiceServicer,
        server_rpc.ServerServiceServicer,
        health_pb2_grpc.HealthServicer,
    ),
    {},
)


class ContractServer(_Services):  # type: ignore[misc]
    """Generates the same text again and again, until it has as many tokens as asked for."""

    def __init__(self) -> None:
        self.running = 0
        self._ids = itertools.count(1)

    # ---- generation

    def Generate(self, request: pb.GenerateRequest, context: Any) -> Iterator[pb.GenerateResponse]:
        """Stream the events."""
        self.validate(request, context)
        generation_id = f"generation-{next(self._ids)}"
        context.send_initial_metadata((("eudai-generation-id", generation_id), *self.echo(context)))
        self.running += 1
        left = threading.Event()
        context.add_callback(left.set)
        try:
            for event in self.events(request, generation_id):
                if event.HasField("started"):
                    event.started.request_id = dict(self.echo(context)).get(REQUEST_ID, "")
                yield event
                # As long as the next token takes.
                if left.wait(STREAM_STEP_S):
                    return
        finally:
            self.end(left)
        self.set_trailers(request, context)

    def GenerateOnce(self, request: pb.GenerateOnceRequest, context: Any) -> Any:
        """Return the events of Generate as one generation."""
        self.validate(request.request, context)
        events = list(self.events(request.request, f"generation-{next(self._ids)}"))
        text = "".join(event.delta.text for event in events)
        message = content_pb2.Message(
            role=content_pb2.ROLE_ASSISTANT, parts=[content_pb2.Part(text=text)]
        )
        generation = pb.Generation(
            started=events[0].started, message=message, finished=events[-1].finished
        )
        self.set_trailers(request.request, context)
        return pb.GenerateOnceResponse(generation=generation)

    def events(self, request: pb.GenerateRequest, generation_id: str) -> Iterator[Any]:
        """The events of one generation."""
        yield self.started(request, generation_id)
        for count in range(self.output_tokens(request)):
            yield self.delta(PIECES[count % len(PIECES)])
        yield self.finished(request)

    def started(self, request: pb.GenerateRequest, generation_id: str) -> pb.GenerateResponse:
        """The first event."""
        model = self.model(request.model)
        return pb.GenerateResponse(
            started=pb.Started(generation_id=generation_id, model=model.name, digest=model.digest)
        )

    def delta(self, text: str) -> pb.GenerateResponse:
        """A piece of the answer."""
        return pb.GenerateResponse(delta=pb.Delta(text=text))

    def finished(self, request: pb.GenerateRequest) -> pb.GenerateResponse:
        """The last event."""
        usage = pb.Usage(input_tokens=3, output_tokens=self.output_tokens(request))
        return pb.GenerateResponse(
            finished=pb.Finished(reason=pb.FINISH_REASON_LENGTH, usage=usage)
        )

    def output_tokens(self, request: pb.GenerateRequest) -> int:
        """The number of generated tokens."""
        return request.stop.max_output_tokens or len(PIECES)

    def set_trailers(self, request: pb.GenerateRequest, context: Any) -> None:
        """Set the trailing metadata of a successful call."""
        context.set_trailing_metadata(
            (
                ("eudai-finish-reason", "LENGTH"),
                ("eudai-input-tokens", "3"),
                ("eudai-output-tokens", str(self.output_tokens(request))),
            )
        )

    def end(self, left: threading.Event) -> None:  # noqa: ARG002 - a broken server uses it
        """Stop the model. `left` is set if the caller has left."""
        self.running -= 1

    def echo(self, context: Any) -> list[tuple[str, str]]:
        """The caller's own id, as metadata of the response."""
        return [pair for pair in context.invocation_metadata() if pair[0] == REQUEST_ID]

    # ---- failures

    def validate(self, request: pb.GenerateRequest, context: Any) -> None:
        """Refuse an invalid request."""
        violations = []
        if not request.model:
            violations.append(Violation("model", "must be set"))
        if not request.WhichOneof("input"):
            violations.append(Violation("input", "must be set"))
        if request.sampling.temperature > 5:
            violations.append(Violation("sampling.temperature", "must be at most 5"))
        if dict(context.invocation_metadata()).get("eudai-model", request.model) != request.model:
            violations.append(Violation("model", "differs from the metadata eudai-model"))
        if violations:
            self.refuse(
                context,
                ServiceError(Reason.INVALID_REQUEST, "invalid request", violations=violations),
            )
        self.known(request.model, context)
        digest = self.model(request.model).digest
        if request.expected_digest not in ("", digest):
            metadata = {"expected": request.expected_digest, "actual": digest}
            self.refuse(
                context,
                ServiceError(Reason.DIGEST_MISMATCH, "the digest differs", metadata=metadata),
            )

    def known(self, name: str, context: Any) -> None:
        """Refuse an unknown model."""
        if name.removesuffix(":latest") not in MODELS:
            self.refuse(context, ModelNotFoundError(name))

    def model(self, name: str) -> model_pb.Model:
        """A known model."""
        return MODELS[name.removesuffix(":latest")]

    def refuse(self, context: Any, error: ServiceError) -> None:
        """End the call with the status of an error."""
        echo = self.echo(context)
        for _, request_id in echo:
            error.metadata["request_id"] = request_id
        status = status_from(error)
        context.set_trailing_metadata((*trailers_from(error, status), *echo))
        code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        context.abort(code, status.message)

    # ---- the other services

    def Embed(self, request: Any, context: Any) -> Iterator[embedding_pb.EmbedResponse]:
        """A vector of length 1 for each text."""
        self.known(request.model, context)
        for number, text in enumerate(request.inputs):
            response = embedding_pb.EmbedResponse(
                embeddings=[embedding_pb.Embedding(values=self.vector(text))], input_tokens=1
            )
            if number == 0:
                model = self.model(request.model)
                response.model, response.digest = model.name, model.digest
            yield response

    def vector(self, text: str) -> list[float]:
        """The vector of a text."""
        share = len(text) % 10 / 10
        return [share, (1 - share**2) ** 0.5]

    def ListModels(self, request: Any, context: Any) -> Any:  # noqa: ARG002 - gRPC calls it so
        """The models, in pages."""
        begin = int(request.page_token or 0)
        end = begin + (request.page_size or 100)
        names = sorted(MODELS)
        return model_pb.ListModelsResponse(
            models=[MODELS[name] for name in names[begin:end]],
            next_page_token=str(end) if end < len(names) else "",
        )

    def GetModel(self, request: Any, context: Any) -> Any:
        """One model."""
        self.known(request.model, context)
        return model_pb.GetModelResponse(model=self.model(request.model))

    def GetServerInfo(self, request: Any, context: Any) -> Any:  # noqa: ARG002 - as above
        """Version and load."""
        return server_pb.GetServerInfoResponse(
            version="1",
            max_message_bytes=8 << 20,
            max_running=4,
            max_queued=4,
            running=self.running,
        )

    def Check(self, request: Any, context: Any) -> Any:
        """Everything that exists is healthy."""
        names = ["", "liveness", *(f"eudai.v1.{name}" for name in SERVICES)]
        names += [f"model/{model.name}" for model in MODELS.values()]
        if request.service not in names:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown health name")
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def contract_server(service: ContractServer) -> Iterator[str]:
    """Serve on a port of its own; yields the address."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    generation_rpc.add_GenerationServiceServicer_to_server(service, server)
    embedding_rpc.add_EmbeddingServiceServicer_to_server(service, server)
    model_rpc.add_ModelServiceServicer_to_server(service, server)
    server_rpc.add_ServerServiceServicer_to_server(service, server)
    health_pb2_grpc.add_HealthServicer_to_server(service, server)
    reflection.enable_server_reflection([f"eudai.v1.{name}" for name in SERVICES], server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=0).wait()
