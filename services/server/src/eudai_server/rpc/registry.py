"""The list of all gRPC services and their methods."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import grpc
from eudai.v1 import (
    embedding_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    server_service_pb2,
)
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from eudai_server.core.admission import Admission
from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.models import Store
from eudai_server.core.readiness import Readiness
from eudai_server.core.schema_checks import SchemaChecks
from eudai_server.rpc.access.policy import SCOPES
from eudai_server.rpc.services.embedding import EmbeddingService
from eudai_server.rpc.services.generation import GenerationService
from eudai_server.rpc.services.health import HealthService
from eudai_server.rpc.services.models import ModelService
from eudai_server.rpc.services.reflection import V1, V1ALPHA, ReflectionService
from eudai_server.rpc.services.server_info import Limits, ServerService
from eudai_server.rpc.transport.call import Call
from eudai_server.rpc.transport.calls import Calls, Handle, Rpc

GENERATION = generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"]
EMBEDDING = embedding_service_pb2.DESCRIPTOR.services_by_name["EmbeddingService"]
MODEL = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"]
SERVER = server_service_pb2.DESCRIPTOR.services_by_name["ServerService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


# The methods of ModelService that change something, so an operator has to enable them.
ADMIN = frozenset(method.name for method in MODEL.methods) - {"ListModels", "GetModel"}


@dataclass(frozen=True, slots=True)
class Service:
    """A service: its full name, and its RPCs by method name."""

    name: str
    rpcs: Mapping[str, Rpc]


def services(
    *,
    store: Store,
    registries: Sequence[str],
    readiness: Readiness,
    admission: Admission,
    schema_checks: SchemaChecks,
    limits: Limits,
    ollama_version: Callable[[], str],
    reflection: bool,
) -> list[Service]:
    """All services, in the order in which reflection lists them."""
    generation = GenerationService(admission, schema_checks, load_options=limits.load_options)
    embedding = EmbeddingService(admission, load_options=limits.load_options)
    models = ModelService(store, load_options=limits.load_options, registries=registries)
    server = ServerService(admission, limits, ollama_version)
    health = HealthService(
        readiness, [service.full_name for service in (GENERATION, EMBEDDING, MODEL, SERVER)]
    )
    registered = [
        _service(
            GENERATION, {"Generate": generation.generate, "GenerateOnce": generation.generate_once}
        ),
        _service(EMBEDDING, {"Embed": embedding.embed}),
        _service(MODEL, _model_handles(models, admin=limits.admin)),
        _service(SERVER, {"GetServerInfo": server.get_server_info}),
        _service(HEALTH, {"Check": health.check, "Watch": health.watch}, idle=True),
    ]
    if reflection:
        info = ReflectionService([*(service.name for service in registered), V1, V1ALPHA]).info
        registered += [
            _service(REFLECTION, {"ServerReflectionInfo": info}, name=name, idle=True)
            for name in (V1, V1ALPHA)
        ]
    return registered


def register(server: grpc.aio.Server, calls: Calls, registered: Sequence[Service]) -> None:
    """Register every RPC behind the wrapper of `Calls`."""
    for service in registered:
        handlers = {method: calls.handler(rpc) for method, rpc in service.rpcs.items()}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service.name, handlers),)
        )


def _service(
    descriptor: ServiceDescriptor,
    handles: Mapping[str, Handle],
    *,
    name: str = "",
    idle: bool = False,
) -> Service:
    name = name or descriptor.full_name
    rpcs = {
        method.name: Rpc(
            method=f"{name}/{method.name}",
            request_class=GetMessageClass(method.input_type),
            handle=handles[method.name],
            scope=SCOPES[f"{name}/{method.name}"],
            # A refused RPC is registered as a stream of requests, so that none is read.
            requests_stream=method.client_streaming or handles[method.name] is _refuse_admin,
            idle=idle,
        )
        for method in descriptor.methods
    }
    return Service(name, rpcs)


def _model_handles(models: ModelService, *, admin: bool) -> Mapping[str, Handle]:
    handles: dict[str, Handle] = {
        "ListModels": models.list_models,
        "GetModel": models.get_model,
        "PullModel": models.pull_model,
        "ListPulls": models.list_pulls,
        "CancelPull": models.cancel_pull,
        "PushModel": models.push_model,
        "CreateModel": models.create_model,
        "UploadBlob": models.upload_blob,
        "CopyModel": models.copy_model,
        "DeleteModel": models.delete_model,
        "LoadModel": models.load_model,
        "UnloadModel": models.unload_model,
    }
    return handles if admin else handles | dict.fromkeys(ADMIN, _refuse_admin)


async def _refuse_admin(_requests: object, _call: Call) -> None:
    raise ServiceError(
        Reason.ADMIN_DISABLED,
        "model administration is disabled; the operator can enable it with EUDAI_ADMIN=true",
    )
