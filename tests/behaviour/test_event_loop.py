"""Failed operations of gRPC must have a result, because otherwise gRPC does not free them."""

import asyncio

import pytest
from eudai_server.rpc.transport.event_loop import EventLoop
from grpc._cython.cygrpc import (  # type: ignore[import-not-found] # the annotations end before it
    ExecuteBatchError,
)


async def test_a_failed_operation_of_grpc_has_a_result() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, EventLoop)
    future = loop.create_future()
    future.set_exception(ExecuteBatchError("Failed"))

    assert await future is None


async def test_other_failed_futures_keep_their_exception() -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_exception(OSError("no"))

    with pytest.raises(OSError, match="no"):
        await future
