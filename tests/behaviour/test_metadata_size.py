"""Metadata up to a limit is always accepted, and above it always refused."""

from typing import Any

import grpc
import pytest
from eudai.v1 import server_service_pb2 as pb, server_service_pb2_grpc as rpc
from eudai_server.rpc.transport.listener import METADATA_BYTES_MAX
from serving import Server

pytestmark = pytest.mark.slow

CALLS = 10
# HTTP/2 counts 32 bytes more for each header, and gRPC sends some of its own.
OVERHEAD_BYTES = 1024


async def outcomes(server: Server, metadata_bytes: int) -> set[str]:
    """The codes of some calls with metadata of this size."""
    ended = set()
    metadata: Any = (("x", "y" * metadata_bytes),)
    stub = rpc.ServerServiceStub(server.channel)
    for _ in range(CALLS):
        try:
            await stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=metadata, timeout=5)
            ended.add("OK")
        except grpc.aio.AioRpcError as failure:
            ended.add(failure.code().name)
    return ended


@pytest.mark.parametrize(
    "size", [100, METADATA_BYTES_MAX // 2, METADATA_BYTES_MAX - OVERHEAD_BYTES]
)
async def test_small_metadata_is_always_accepted(server: Server, size: int) -> None:
    assert await outcomes(server, size) == {"OK"}


@pytest.mark.parametrize(
    "size",
    [METADATA_BYTES_MAX, METADATA_BYTES_MAX * 5 // 4, 2 * METADATA_BYTES_MAX - 2048, 100_000],
)
async def test_large_metadata_is_always_refused(server: Server, size: int) -> None:
    ended = await outcomes(server, size)

    assert len(ended) == 1
    assert ended <= {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}
