"""Models, transfers, uploads and embeddings."""

import hashlib
import threading
from pathlib import Path

import eudai
import grpc
import pytest
from eudai.uploads import PIECE_BYTES
from eudai.v1 import embedding_service_pb2 as embedding_pb, model_service_pb2 as pb
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
