"""The rules of models, embeddings and health."""

import grpc
from grpc_health.v1 import health_pb2

from eudai.conformance.calls import CALL_TIMEOUT_S, UNKNOWN, NotCheckedError, Subject
from eudai.conformance.rules import require, rule
from eudai.v1 import embedding_service_pb2 as embedding_pb, model_service_pb2 as model_pb

NORM_ERROR_MAX = 0.01


@rule
def models_sorted_and_paged(subject: Subject) -> None:
    """ListModels sorts by name, and its pages together are the whole list."""
    names = [model.name for model in subject.listed()]
    require(names == sorted(names), "the list is not sorted")
    paged: list[str] = []
    token = ""
    for _ in names:
        request = model_pb.ListModelsRequest(page_size=1, page_token=token)
        page = subject.models.ListModels(request, timeout=CALL_TIMEOUT_S)
        paged += [model.name for model in page.models]
        token = page.next_page_token
    require(not token, "a page too many")
    require(paged == names, f"the pages have {paged}")


@rule
def model_described_alike(subject: Subject) -> None:
    """GetModel and Started give a model the same name and digest."""
    request = model_pb.GetModelRequest(model=subject.model)
    model = subject.models.GetModel(request, timeout=CALL_TIMEOUT_S).model
    started = subject.answer.started
    require(model.name == started.model, f"{model.name!r} and {started.model!r}")
    require(model.digest == started.digest, f"{model.digest!r} and {started.digest!r}")


@rule
def vectors_in_order(subject: Subject) -> None:
    """Embed returns a vector of length 1 for each text, in the order of the texts."""
    if not subject.embedding_model:
        raise NotCheckedError("the server has no embedding model")
    texts = ["rain", "a treaty on the law of taxes"]
    vectors = _vectors(subject, texts)
    require(len(vectors) == len(texts), f"{len(vectors)} vectors for {len(texts)} texts")
    for vector in vectors:
        norm = sum(value**2 for value in vector) ** 0.5
        require(abs(norm - 1) < NORM_ERROR_MAX, f"a vector has the length {norm:.3f}")
    backwards = _vectors(subject, texts[::-1])
    likeness = sum(a * b for a, b in zip(vectors[0], backwards[-1], strict=True))
    require(likeness > 1 - NORM_ERROR_MAX, "another order of the texts changes the vectors")


def _vectors(subject: Subject, texts: list[str]) -> list[list[float]]:
    request = embedding_pb.EmbedRequest(model=subject.embedding_model, inputs=texts)
    responses = list(subject.embedding.Embed(request, timeout=CALL_TIMEOUT_S))
    require(responses[0].model, "the first response does not name the model")
    require(not any(one.model for one in responses[1:]), "a later response names the model")
    return [list(one.values) for response in responses for one in response.embeddings]


@rule
def health_names(subject: Subject) -> None:
    """Each service and the model are SERVING, and an unknown name is NOT_FOUND."""
    services = ("GenerationService", "EmbeddingService", "ModelService", "ServerService")
    model = subject.answer.started.model
    for name in ("", "liveness", *(f"eudai.v1.{one}" for one in services), f"model/{model}"):
        status = subject.health.Check(
            health_pb2.HealthCheckRequest(service=name), timeout=CALL_TIMEOUT_S
        ).status
        require(status == health_pb2.HealthCheckResponse.SERVING, f"{name!r} is not SERVING")
    unknown = health_pb2.HealthCheckRequest(service=UNKNOWN)
    code = subject.failure(subject.health.Check, unknown).code
    require(code is grpc.StatusCode.NOT_FOUND, f"an unknown name has the code {code.name}")
