"""Everything that is registered, as one list. An RPC that this version lacks answers UNIMPLEMENTED and says so."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from eudai.v1 import embedding_service_pb2, generation_service_pb2, model_service_pb2, server_service_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from eudai_server.embedding import Embedder
from eudai_server.generation import Backend
from eudai_server.readiness import Readiness
from eudai_server.rpc.call import Call, Calls, Handle
from eudai_server.rpc.embedding_service import EmbeddingService
from eudai_server.rpc.generation_service import GenerationService
from eudai_server.rpc.health import HealthService
from eudai_server.rpc.reflection import V1, V1ALPHA, ReflectionService
from eudai_server.rpc.server_service import Limits, ServerService

GENERATION = generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"]
EMBEDDING = embedding_service_pb2.DESCRIPTOR.services_by_name["EmbeddingService"]
MODEL = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"]
SERVER = server_service_pb2.DESCRIPTOR.services_by_name["ServerService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


@dataclass(frozen=True, slots=True)
class Registration:
    """A service, the name it has on the wire, and what answers its methods."""

    name: str
    descriptor: ServiceDescriptor
    handles: Mapping[str, Handle]
    # Ends only when its client leaves, or is no work of the model's: not logged, and no drain waits for it.
    idle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the services are made of."""

    backend: Backend
    embedder: Embedder
    readiness: Readiness
    calls: Calls
    limits: Limits
    ollama_version: Callable[[], str]


def registrations(parts: Parts, *, reflection: bool) -> list[Registration]:
    """All services, in the order in which they are listed."""
    generation = GenerationService(parts.backend, load_options=parts.limits.load_options)
    embedding = EmbeddingService(parts.embedder, load_options=parts.limits.load_options)
    server = ServerService(parts.calls, parts.limits, parts.ollama_version)
    served = [GENERATION.full_name, EMBEDDING.full_name, SERVER.full_name]
    health = HealthService(parts.readiness, served=served, unserved=[MODEL.full_name])
    services = [
        Registration(GENERATION.full_name, GENERATION, {"Generate": generation.generate, "GenerateOnce": generation.generate_once}),
        Registration(EMBEDDING.full_name, EMBEDDING, {"Embed": embedding.embed}),
        Registration(MODEL.full_name, MODEL, {}),
        Registration(SERVER.full_name, SERVER, {"GetServerInfo": server.get_server_info}),
        Registration(HEALTH.full_name, HEALTH, {"Check": health.check, "Watch": health.watch}, idle=True),
    ]
    if reflection:
        info = ReflectionService([*(service.name for service in services), V1, V1ALPHA]).info
        services += [Registration(name, REFLECTION, {"ServerReflectionInfo": info}, idle=True) for name in (V1, V1ALPHA)]
    return services


def register(server: grpc.aio.Server, calls: Calls, services: list[Registration]) -> None:
    """Put every service behind the one wrapper."""
    for service in services:
        handlers = {method.name: _handler(calls, service, method) for method in service.descriptor.methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.name, handlers),))


def _handler(calls: Calls, service: Registration, method: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
    return calls.handler(
        f"{service.name}/{method.name}",
        service.handles.get(method.name, _unimplemented),
        requests_stream=method.client_streaming,
        responses_stream=method.server_streaming,
        idle=service.idle,
    )


async def _unimplemented(_request: object, call: Call) -> None:
    await call.refuse(grpc.StatusCode.UNIMPLEMENTED, f"{call.method} is not part of this version")
