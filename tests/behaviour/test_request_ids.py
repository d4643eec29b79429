"""Request ids of callers, and where the server repeats them."""

from typing import Any

import grpc
import pytest
from eudai.v1 import (
    embedding_service_pb2 as embedding_pb,
    embedding_service_pb2_grpc,
    generation_service_pb2 as pb,
)
from refusal import Refusal, refused
from serving import Server

REQUEST = pb.GenerateRequest(model="gemma3:270m", prompt="hi")


def begun(server: Server, request_id: str, request: pb.GenerateRequest = REQUEST) -> Any:
    """Begin a generation with a request id."""
    return server.generation.Generate(
        request, metadata=(("eudai-request-id", request_id),), timeout=10
    )


async def test_a_request_id_is_in_the_metadata_the_first_event_and_the_log(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    call = begun(server, "order-7")
    events = [event async for event in call]

    assert dict(await call.initial_metadata())["eudai-request-id"] == "order-7"
    assert events[0].started.request_id == "order-7"
    assert "order-7" in [
        getattr(record, "fields", {}).get("request_id") for record in caplog.records
    ]


async def test_the_unary_call_returns_the_request_id(server: Server) -> None:
    answer = await server.generation.GenerateOnce(
        pb.GenerateOnceRequest(request=REQUEST),
        metadata=(("eudai-request-id", "order-7"),),
        timeout=10,
    )

    assert answer.generation.started.request_id == "order-7"


async def test_a_failure_names_the_request_id(server: Server) -> None:
    refusal = await refused(begun(server, "order-7", pb.GenerateRequest(model="gemma3:270m")))

    assert refusal.details["ErrorInfo"].metadata["request_id"] == "order-7"
    assert refusal.trailers["eudai-request-id"] == "order-7"


async def test_other_calls_return_the_request_id_too(server: Server) -> None:
    stub = embedding_service_pb2_grpc.EmbeddingServiceStub(server.channel)
    call: Any = stub.Embed(
        embedding_pb.EmbedRequest(model="absent", inputs=["x"]),
        metadata=(("eudai-request-id", "order-7"),),
        timeout=10,
    )
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()

    assert Refusal(failure.value).trailers["eudai-request-id"] == "order-7"


@pytest.mark.parametrize("request_id", ["", "x" * 101])
async def test_a_bad_request_id_is_refused_by_name(server: Server, request_id: str) -> None:
    refusal = await refused(begun(server, request_id))

    assert refusal.reason == "INVALID_REQUEST"
    assert refusal.fields == ["eudai-request-id"]
