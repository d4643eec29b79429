"""Servers that each break one rule of the contract, named by their rule in eudai.conformance."""

# ruff: noqa: D102 - the docstring of each class says what is wrong

import threading
from collections.abc import Iterator
from typing import Any

import grpc
from contract_server import ContractServer
from eudai.v1 import generation_service_pb2 as pb
from eudai_server.core.errors import Reason, ServiceError
from grpc_health.v1 import health_pb2


class TwoStarted(ContractServer):
    """Sends Started twice."""

    def events(self, request: pb.GenerateRequest, generation_id: str) -> Iterator[Any]:
        yield self.started(request, generation_id)
        yield from super().events(request, generation_id)


class DeltaBeforeStarted(ContractServer):
    """Sends output before Started."""

    def events(self, request: pb.GenerateRequest, generation_id: str) -> Iterator[Any]:
        yield self.delta("Once")
        yield from super().events(request, generation_id)


class DeltaAfterFinished(ContractServer):
    """Sends output after Finished."""

    def events(self, request: pb.GenerateRequest, generation_id: str) -> Iterator[Any]:
        yield from super().events(request, generation_id)
        yield self.delta("more")


class NoFinished(ContractServer):
    """Ends a stream with OK before it is complete."""

    def events(self, request: pb.GenerateRequest, generation_id: str) -> Iterator[Any]:
        yield from list(super().events(request, generation_id))[:-1]


class EmptyDelta(ContractServer):
    """Sends a Delta without output."""

    def events(self, request: pb.GenerateRequest, generation_id: str) -> Iterator[Any]:
        first, *rest = super().events(request, generation_id)
        yield from (first, self.delta(""), *rest)


class UnaskedProgress(ContractServer):
    """Sends progress that the caller did not ask for."""

    def events(self, request: pb.GenerateRequest, generation_id: str) -> Iterator[Any]:
        yield pb.GenerateResponse(progress=pb.GenerationProgress())
        yield from super().events(request, generation_id)


class OtherUsage(ContractServer):
    """Counts other tokens in the metadata than in Finished."""

    def set_trailers(self, request: Any, context: Any) -> None:  # noqa: ARG002 - overridden
        context.set_trailing_metadata(
            (
                ("eudai-finish-reason", "LENGTH"),
                ("eudai-input-tokens", "99"),
                ("eudai-output-tokens", "99"),
            )
        )


class OtherGenerationId(ContractServer):
    """Has one id in Started, and another one in the metadata."""

    def started(self, request: pb.GenerateRequest, generation_id: str) -> pb.GenerateResponse:
        return super().started(request, f"not-{generation_id}")


class OtherText(ContractServer):
    """Answers GenerateOnce with another text than Generate."""

    def GenerateOnce(self, request: pb.GenerateOnceRequest, context: Any) -> Any:
        answer = super().GenerateOnce(request, context)
        answer.generation.message.parts[0].text = "Something else"
        return answer


class RunsOn(ContractServer):
    """Generates on after the caller has left."""

    def end(self, left: threading.Event) -> None:
        if not left.is_set():
            super().end(left)


class NoDetails(ContractServer):
    """Sends failures without details."""

    def refuse(self, context: Any, error: ServiceError) -> None:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", "-1"),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)


class OtherReason(ContractServer):
    """Does not tell an unknown model from a defect."""

    def known(self, name: str, context: Any) -> None:
        try:
            self.model(name)
        except KeyError:
            self.refuse(context, ServiceError(Reason.BACKEND_FAILURE, "no such model"))


class UnnamedFields(ContractServer):
    """Refuses an invalid request, and does not name its fields."""

    def refuse(self, context: Any, error: ServiceError) -> None:
        error.violations = ()
        super().refuse(context, error)


class RetryAnything(ContractServer):
    """Lets a client repeat what cannot succeed."""

    def refuse(self, context: Any, error: ServiceError) -> None:
        error.retry_after_s = 0.01
        super().refuse(context, error)


class VectorsBackwards(ContractServer):
    """Embeds the texts in the wrong order."""

    def Embed(self, request: Any, context: Any) -> Iterator[Any]:
        responses = list(super().Embed(request, context))
        vectors = [list(one.embeddings[0].values) for one in responses]
        for response, vector in zip(responses, sorted(vectors), strict=True):
            response.embeddings[0].values[:] = vector
            yield response


class UnknownNameServing(ContractServer):
    """Is healthy under any name."""

    def Check(self, request: Any, context: Any) -> Any:  # noqa: ARG002 - gRPC calls it so
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


BROKEN: dict[type[ContractServer], str] = {
    TwoStarted: "started_once_first",
    DeltaBeforeStarted: "started_once_first",
    DeltaAfterFinished: "finished_once_last",
    NoFinished: "finished_once_last",
    EmptyDelta: "deltas_not_empty",
    UnaskedProgress: "progress_only_if_asked",
    OtherUsage: "usage_agrees",
    OtherGenerationId: "generation_id_agrees",
    OtherText: "once_agrees_with_stream",
    RunsOn: "cancellation_stops_the_model",
    NoDetails: "failures_have_details",
    OtherReason: "failures_have_their_code",
    UnnamedFields: "invalid_fields_named",
    RetryAnything: "failures_forbid_retries",
    VectorsBackwards: "vectors_in_order",
    UnknownNameServing: "health_names",
}
