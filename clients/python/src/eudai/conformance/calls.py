"""The calls of the conformance check, and what comes back."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2_grpc

from eudai.v1 import (
    embedding_service_pb2_grpc,
    generation_service_pb2 as pb,
    generation_service_pb2_grpc,
    model_service_pb2 as model_pb,
    model_service_pb2_grpc,
    server_service_pb2_grpc,
)

CALL_TIMEOUT_S = 120.0
OUTPUT_TOKENS = 8
PROMPT = "Write a long story about the rain."
MODELS_MAX = 1000
# The name of a model and of a service that do not exist.
UNKNOWN = "eudai-conformance-unknown"


class RuleError(Exception):
    """The server breaks a rule; the message says how."""


class NotCheckedError(Exception):
    """A rule cannot be checked on this server; the message says why."""


@dataclass(frozen=True)
class Answer:
    """A successful generation."""

    events: list[pb.GenerateResponse]
    initial: dict[str, str | bytes]
    trailing: dict[str, str | bytes]

    @property
    def kinds(self) -> list[str]:
        """The kinds of the events. A kind of a later version of the contract is empty."""
        return [event.WhichOneof("event") or "" for event in self.events]

    def all(self, kind: str) -> list[Any]:
        """The events of a kind."""
        return [getattr(event, kind) for event in self.events if event.WhichOneof("event") == kind]

    @property
    def started(self) -> pb.Started:
        """The Started event, or an empty one."""
        return next(iter(self.all("started")), pb.Started())

    @property
    def finished(self) -> pb.Finished:
        """The Finished event, or an empty one."""
        return next(iter(self.all("finished")), pb.Finished())


@dataclass(frozen=True)
class Failure:
    """A failed call."""

    code: grpc.StatusCode
    message: str
    trailing: dict[str, str | bytes]

    @property
    def status(self) -> status_pb2.Status:
        """The status with its details; empty if the server sent none."""
        raw = self.trailing.get("grpc-status-details-bin", b"")
        return status_pb2.Status.FromString(raw if isinstance(raw, bytes) else b"")

    def detail(self, kind: type[Message]) -> Any:
        """The first detail of a type, or an empty one."""
        detail = kind()
        next((packed for packed in self.status.details if packed.Unpack(detail)), None)
        return detail

    @property
    def reason(self) -> str:
        """The reason of the ErrorInfo, or an empty text."""
        return str(self.detail(error_details_pb2.ErrorInfo).reason)

    @property
    def fields(self) -> list[str]:
        """The invalid fields."""
        return [one.field for one in self.detail(error_details_pb2.BadRequest).field_violations]


class Subject:
    """The server that is checked."""

    def __init__(self, channel: grpc.Channel, model: str, embedding_model: str) -> None:
        """An empty model is selected from those of the server. Raises grpc.RpcError."""
        self.generation: Any = generation_service_pb2_grpc.GenerationServiceStub(channel)
        self.embedding: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        self.models: Any = model_service_pb2_grpc.ModelServiceStub(channel)
        self.server: Any = server_service_pb2_grpc.ServerServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)
        self.model = model or self._first_model(model_pb.CAPABILITY_COMPLETION)
        self.embedding_model = embedding_model or self._first_model(model_pb.CAPABILITY_EMBEDDING)

    def _first_model(self, capability: int) -> str:
        return next((one.name for one in self.listed() if capability in one.capabilities), "")

    def listed(self) -> list[model_pb.Model]:
        """The models of the server, on one page."""
        request = model_pb.ListModelsRequest(page_size=MODELS_MAX)
        return list(self.models.ListModels(request, timeout=CALL_TIMEOUT_S).models)

    def request(self, **fields: Any) -> pb.GenerateRequest:
        """A valid request that has the same answer each time, with these fields replaced."""
        if not self.model:
            raise NotCheckedError("the server has no model that generates text")
        request = pb.GenerateRequest(model=self.model, prompt=PROMPT)
        request.sampling.temperature = 0
        request.sampling.seed = 1
        request.stop.max_output_tokens = OUTPUT_TOKENS
        request.MergeFrom(pb.GenerateRequest(**fields))
        return request

    def generate(self, *metadata: tuple[str, str]) -> Answer:
        """One generation."""
        call = self.generation.Generate(self.request(), timeout=CALL_TIMEOUT_S, metadata=metadata)
        events = list(call)
        return Answer(events, dict(call.initial_metadata()), dict(call.trailing_metadata()))

    @cached_property
    def answer(self) -> Answer:
        """A generation that many rules are checked on."""
        return self.generate()

    @cached_property
    def once(self) -> pb.Generation:
        """The same generation as one response."""
        request = pb.GenerateOnceRequest(request=self.request())
        response: pb.GenerateOnceResponse = self.generation.GenerateOnce(
            request, timeout=CALL_TIMEOUT_S
        )
        return response.generation

    def failure(self, method: Any, request: Message, *metadata: tuple[str, str]) -> Failure:
        """A call that must fail. Raises RuleError if it succeeds."""
        try:
            call = method(request, timeout=CALL_TIMEOUT_S, metadata=metadata)
            if isinstance(call, Iterator):
                list(call)
        except grpc.RpcError as error:
            # Every error of a call has these methods, which the annotations do not say.
            failed: Any = error
            trailing = dict(failed.trailing_metadata() or ())
            return Failure(failed.code(), failed.details() or "", trailing)
        raise RuleError(f"a call that must fail succeeded: {_shown(request)}")


def _shown(request: Message) -> str:
    return f"{type(request).__name__} {' '.join(str(request).split())[:200]}"
