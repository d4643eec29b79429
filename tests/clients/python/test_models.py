"""Models, transfers, uploads and embeddings."""

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import eudai
import grpc
import pytest
from eudai.embeddings import TEXTS_MAX, EmbedBatches
from eudai.uploads import PIECE_BYTES
from eudai.v1 import embedding_service_pb2 as embedding_pb, model_service_pb2 as pb
from google.rpc import error_details_pb2
from scripted_services import ScriptedServices, endless_pull, fail

grpc_max_workers = 8
PROGRESS = pb.PullModelResponse(progress=pb.TransferProgress(completed_bytes=1, total_bytes=2))


def test_all_pages_are_read_as_they_are_needed(
    client: eudai.Client, services: ScriptedServices
) -> None:
    models = client.models(loaded_only=True, capabilities=["tools", "vision"])

    assert next(models).name == "all-minilm:latest"
    assert len(services.requests) == 1
    assert [model.name for model in models] == ["gemma3:270m"]
    (first, second) = services.requests
    assert first.loaded_only
    assert list(first.capabilities) == [pb.CAPABILITY_TOOLS, pb.CAPABILITY_VISION]
    assert second.page_token == "1"  # noqa: S105 - of a page
    with pytest.raises(ValueError, match="'taste' is not one of completion, tools"):
        list(client.models(capabilities=["taste"]))


def test_a_file_is_uploaded_in_pieces_under_its_digest(
    client: eudai.Client, services: ScriptedServices, tmp_path: Path
) -> None:
    path = tmp_path / "weights.gguf"
    path.write_bytes(b"x" * (PIECE_BYTES + 1))
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"

    assert client.upload(path) == digest
    (requests,) = services.requests
    assert [(each.digest, len(each.data)) for each in requests] == [
        (digest, 0), ("", PIECE_BYTES), ("", 1),
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError, match="nowhere"):
        client.upload(tmp_path / "nowhere")


def test_leaving_a_pull_cancels_it(client: eudai.Client, services: ScriptedServices) -> None:
    services.on["PullModel"] = endless_pull
    with client.pull("m", detach=True) as pull:
        assert next(iter(pull)).total_bytes == 2

    assert services.ended.wait(10)
    assert services.requests[0].detach
    with pytest.raises(RuntimeError, match="left before"):
        pull.wait()


def test_a_loop_over_a_pull_that_ends_early_cancels_it(
    client: eudai.Client, services: ScriptedServices
) -> None:
    services.on["PullModel"] = endless_pull
    for _ in client.pull("m"):
        break

    assert services.ended.wait(10)


def test_a_pull_that_fails_or_ends_early_is_an_error(
    client: eudai.Client, services: ScriptedServices
) -> None:
    services.on["PullModel"] = lambda _request, _context: iter([PROGRESS])
    with pytest.raises(eudai.IncompleteResponseError):
        client.pull("m").wait()
    services.on["PullModel"] = lambda _request, context: fail(
        context, grpc.StatusCode.UNAVAILABLE, "REGISTRY_FAILURE"
    )
    with pytest.raises(eudai.RegistryFailureError):
        list(client.pull("m"))


def test_the_fields_of_each_request_arrive(
    client: eudai.Client, services: ScriptedServices
) -> None:
    client.model("m", verbose=True)
    client.copy("a", "b")
    client.delete("m", allow_missing=True)
    client.load("m", {"context_length": 64})
    client.unload("m")

    assert [type(each).__name__ for each in services.requests] == [
        "GetModelRequest", "CopyModelRequest", "DeleteModelRequest", "LoadModelRequest",
        "UnloadModelRequest",
    ]  # fmt: skip
    model, copy, delete, load, _ = services.requests
    assert model.verbose
    assert (copy.source, copy.destination) == ("a", "b")
    assert delete.allow_missing
    assert load.load.context_length == 64


def test_options_of_an_embedding_arrive(client: eudai.Client, services: ScriptedServices) -> None:
    load: eudai.LoadFields = {"threads": 1}
    client.embed("m", ["a"], dimensions=2, truncate=True, load=load, expected_digest="sha256:0")

    (request,) = services.requests
    assert (request.dimensions, request.truncate, request.load.threads) == (2, True, 1)
    assert (request.expected_digest, list(request.inputs)) == ("sha256:0", ["a"])


def test_vectors_that_are_missing_are_an_error(
    client: eudai.Client, services: ScriptedServices
) -> None:
    services.on["Embed"] = lambda _request, _context: iter([embedding_pb.EmbedResponse()])

    with pytest.raises(eudai.IncompleteResponseError, match="0 of 1"):
        client.embed("m", ["a"])


def embedding(services: ScriptedServices, *digests: str) -> None:
    """Let each call of Embed have a model with the next digest. A vector has its text's length."""
    remaining = list(digests)

    def embed(request: embedding_pb.EmbedRequest, context: Any) -> Iterator[Any]:
        digest = remaining.pop(0)
        if request.expected_digest not in ("", digest):
            fail(context, grpc.StatusCode.FAILED_PRECONDITION, "DIGEST_MISMATCH")
        if "bad" in request.inputs:
            field = f"inputs[{list(request.inputs).index('bad')}]"
            violation = error_details_pb2.BadRequest.FieldViolation(field=field)
            bad_request = error_details_pb2.BadRequest(field_violations=[violation])
            code = grpc.StatusCode.INVALID_ARGUMENT
            fail(context, code, "CONTEXT_LENGTH_EXCEEDED", f"{field}: too long", bad_request)
        vectors = [embedding_pb.Embedding(values=[len(text)]) for text in request.inputs]
        yield embedding_pb.EmbedResponse(embeddings=vectors, digest=digest)

    services.on["Embed"] = embed


@pytest.mark.parametrize(
    ("count", "batches"),
    [(0, [0]), (TEXTS_MAX, [TEXTS_MAX]), (TEXTS_MAX + 1, [TEXTS_MAX, 1]),
     (2 * TEXTS_MAX + 7, [TEXTS_MAX, TEXTS_MAX, 7])],
)  # fmt: skip
async def test_more_texts_than_a_request_may_have_are_split(
    client: eudai.Client, async_client: eudai.AsyncClient, services: ScriptedServices,
    count: int, batches: list[int],
) -> None:  # fmt: skip
    texts = ["x" * (number % 7) for number in range(count)]
    embedding(services, *["sha256:1"] * 2 * len(batches))
    vectors = client.embed("m", texts, dimensions=1)

    assert vectors == [[number % 7] for number in range(count)]
    assert await async_client.embed("m", texts, dimensions=1) == vectors
    assert [len(request.inputs) for request in services.requests] == batches * 2
    assert {request.dimensions for request in services.requests} == {1}


@pytest.mark.parametrize(
    ("sizes_mib", "batches"), [([3, 3, 3], [2, 1]), ([1, 7, 1], [1, 1, 1]), ([9, 1], [1, 1])]
)
def test_texts_that_are_too_large_for_a_request_are_split(
    sizes_mib: list[int], batches: list[int]
) -> None:
    request = embedding_pb.EmbedRequest(inputs=["x" * (size << 20) for size in sizes_mib])

    assert [len(each.inputs) for each in EmbedBatches(request, timeout_s=1)] == batches


def test_batches_of_two_models_are_an_error(
    client: eudai.Client, services: ScriptedServices
) -> None:
    embedding(services, "sha256:1", "sha256:2")

    with pytest.raises(eudai.DigestMismatchError):
        client.embed("m", ["a"] * (TEXTS_MAX + 1))


async def test_an_error_names_a_text_by_its_place_among_all(
    client: eudai.Client, async_client: eudai.AsyncClient, services: ScriptedServices
) -> None:
    texts = ["a"] * (TEXTS_MAX + 3) + ["bad"]
    embedding(services, *["sha256:1"] * 4)
    with pytest.raises(eudai.ContextLengthExceededError, match=r"^inputs\[4099\]: ") as failure:
        client.embed("m", texts)
    assert failure.value.violations[0].field == "inputs[4099]"
    with pytest.raises(eudai.ContextLengthExceededError, match=r"^inputs\[4099\]: "):
        await async_client.embed("m", texts)


def test_the_timeout_of_an_embedding_includes_all_batches(
    client: eudai.Client, services: ScriptedServices
) -> None:
    def embed(request: embedding_pb.EmbedRequest, _context: Any) -> Iterator[Any]:
        time.sleep(0.6)
        vectors = [embedding_pb.Embedding()] * len(request.inputs)
        yield embedding_pb.EmbedResponse(embeddings=vectors)

    services.on["Embed"] = embed
    with pytest.raises(eudai.DeadlineExceededError):
        client.embed("m", ["a"] * (TEXTS_MAX + 1), timeout_s=1)
    with pytest.raises(eudai.errors.ConfigError, match="timeout_s"):
        client.embed("m", ["a"], timeout_s=0)


def test_a_single_text_is_not_a_list(client: eudai.Client) -> None:
    with pytest.raises(TypeError, match="texts must be a list of str"):
        client.embed("m", "text")
    with pytest.raises(TypeError, match="texts: "):
        client.embed("m", [1])  # type: ignore[list-item]


def test_threads_share_a_client(client: eudai.Client) -> None:
    texts: list[str] = []

    def generate() -> None:
        texts.append(client.generate_once("m", "hi").text)

    threads = [threading.Thread(target=generate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert texts == ["Hello there!"] * 8
