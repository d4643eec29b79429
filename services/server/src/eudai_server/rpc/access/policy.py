"""The one table of what each RPC needs. An RPC that it does not list cannot be registered."""

from collections.abc import Mapping

from eudai_server.core.access import Scope

# None: anyone may call it. Load balancers and supervisors have no credential, and the service
# reports the health of a model only to those who may know it.
SCOPES: Mapping[str, Scope | None] = {
    "eudai.v1.GenerationService/Generate": Scope.GENERATE,
    "eudai.v1.GenerationService/GenerateOnce": Scope.GENERATE,
    "eudai.v1.EmbeddingService/Embed": Scope.EMBED,
    "eudai.v1.ModelService/ListModels": Scope.MODELS_READ,
    "eudai.v1.ModelService/GetModel": Scope.MODELS_READ,
    "eudai.v1.ModelService/PullModel": Scope.MODELS_ADMIN,
    "eudai.v1.ModelService/ListPulls": Scope.MODELS_ADMIN,
    "eudai.v1.ModelService/CancelPull": Scope.MODELS_ADMIN,
    "eudai.v1.ModelService/PushModel": Scope.MODELS_ADMIN,
    "eudai.v1.ModelService/CreateModel": Scope.MODELS_ADMIN,
    "eudai.v1.ModelService/UploadBlob": Scope.MODELS_ADMIN,
    "eudai.v1.ModelService/CopyModel": Scope.MODELS_ADMIN,
    "eudai.v1.ModelService/DeleteModel": Scope.MODELS_ADMIN,
    "eudai.v1.ModelService/LoadModel": Scope.MODELS_ADMIN,
    "eudai.v1.ModelService/UnloadModel": Scope.MODELS_ADMIN,
    "eudai.v1.ServerService/GetServerInfo": Scope.SERVER_READ,
    "grpc.health.v1.Health/Check": None,
    "grpc.health.v1.Health/Watch": None,
    "grpc.health.v1.Health/List": None,
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Scope.SERVER_READ,
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Scope.SERVER_READ,
}
