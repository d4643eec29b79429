"""The list of all gRPC services and their methods."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from eudai.v1 import (
    embedding_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    server_service_pb2,
)
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from eudai_server.core.admission import Admission
from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.models import Store
from eudai_server.core.readiness import Readiness
from eudai_server.core.schema_checks import SchemaChecks
from eudai_server.rpc.services.embedding import EmbeddingService
from eudai_server.rpc.services.generation import GenerationService
from eudai_server.rpc.services.health import HealthService
from eudai_server.rpc.services.models import ModelService
from eudai_server.rpc.services.reflection import V1, V1ALPHA, ReflectionService
from eudai_server.rpc.services.server_info import Limits, ServerService
from eudai_server.rpc.transport.call import Call
from eudai_server.rpc.transport.calls import Calls, Handle

GENERATION = generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"]
EMBEDDING = embedding_service_pb2.DESCRIPTOR.services_by_name["EmbeddingService"]
MODEL = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"]
SERVER = server_service_pb2.DESCRIPTOR.services_by_name["ServerService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


@dataclass(frozen=True, slots=True)
class Registration:
    """A service: its name on the wire and the handlers of its methods."""

    name: str
    descriptor: ServiceDescriptor
    handles: Mapping[str, Handle]
    # Methods that affect all callers; an operator has to enable them.
    admin: frozenset[str] = frozenset()
    # Calls that end only when the client leaves, or that need no model: they are not logged, and a
    # drain does not wait for them.
    idle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts that the services are built from."""

    store: Store
    registries: Sequence[str]
    readiness: Readiness
    admission: Admission
    schema_checks: SchemaChecks
    limits: Limits
    ollama_version: Callable[[], str]


def registrations(parts: Parts, *, reflection: bool) -> list[Registration]:
    """All services, in the order in which reflection lists them."""
    generation = GenerationService(
        parts.admission, parts.schema_checks, load_options=parts.limits.load_options
    )
    embedding = EmbeddingService(parts.admission, load_options=parts.limits.load_options)
    server = ServerService(parts.admission, parts.limits, parts.ollama_version)
    models = ModelService(
        parts.store, load_options=parts.limits.load_options, registries=parts.registries
    )
    health = HealthService(
        parts.readiness, [service.full_name for service in (GENERATION, EMBEDDING, MODEL, SERVER)]
    )
    services = [
        Registration(
            GENERATION.full_name,
            GENERATION,
            {"Generate": generation.generate, "GenerateOnce": generation.generate_once},
        ),
        Registration(EMBEDDING.full_name, EMBEDDING, {"Embed": embedding.embed}),
        Registration(
            MODEL.full_name,
            MODEL,
            _model_handles(models),
            admin=frozenset() if parts.limits.admin else ADMIN,
        ),
        Registration(SERVER.full_name, SERVER, {"GetServerInfo": server.get_server_info}),
        Registration(
            HEALTH.full_name, HEALTH, {"Check": health.check, "Watch": health.watch}, idle=True
        ),
    ]
    if reflection:
        info = ReflectionService([*(service.name for service in services), V1, V1ALPHA]).info
        services += [
            Registration(name, REFLECTION, {"ServerReflectionInfo": info}, idle=True)
            for name in (V1, V1ALPHA)
        ]
    return services


# The methods of ModelService that change something.
ADMIN = frozenset(method.name for method in MODEL.methods) - {"ListModels", "GetModel"}


def _model_handles(models: ModelService) -> Mapping[str, Handle]:
    return {
        "ListModels": models.list_models,
        "GetModel": models.get_model,
        "PullModel": models.pull_model,
        "PushModel": models.push_model,
        "CreateModel": models.create_model,
        "UploadBlob": models.upload_blob,
        "CopyModel": models.copy_model,
        "DeleteModel": models.delete_model,
        "LoadModel": models.load_model,
        "UnloadModel": models.unload_model,
    }


def register(server: grpc.aio.Server, calls: Calls, services: list[Registration]) -> None:
    """Register every service, each method behind the wrapper of `Calls`."""
    for service in services:
        handlers = {
            method.name: _handler(calls, service, method) for method in service.descriptor.methods
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service.name, handlers),)
        )


def _handler(
    calls: Calls, service: Registration, method: MethodDescriptor
) -> "grpc.RpcMethodHandler[Any, Any]":
    name = f"{service.name}/{method.name}"
    if method.name in service.admin:
        # Registered as a stream of requests, so that none is read.
        return calls.handler(name, _refuse_admin, requests_stream=True)
    return calls.handler(
        name,
        service.handles[method.name],
        requests_stream=method.client_streaming,
        idle=service.idle,
    )


async def _refuse_admin(_requests: object, _call: Call) -> None:
    raise ServiceError(
        Reason.ADMIN_DISABLED,
        "model administration is disabled; the operator can enable it with EUDAI_ADMIN=true",
    )
