"""Operations that gRPC has begun are never cancelled, because gRPC would not free their memory."""

import asyncio
from unittest.mock import AsyncMock

import pytest
from eudai_server.core.errors import ServiceError
from eudai_server.rpc.transport import message_reader
from eudai_server.rpc.transport.call import Call
from eudai_server.rpc.transport.message_reader import ClientStalledError, MessageReader
from eudai_server.rpc.transport.operation import complete
from google.protobuf.empty_pb2 import Empty


class Operation:
    """An operation of gRPC that lasts until its event is set."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.event = asyncio.Event()
        self.end = "none"

    async def run(self) -> bytes:
        """Run the operation, as `ServicerContext.read` and `write` do."""
        self.begun.set()
        try:
            await self.event.wait()
            self.end = "freed"
        except asyncio.CancelledError:
            self.end = "lost"
            raise
        return b"x"

    async def settle(self) -> str:
        """Let the operation end, and return how it ended."""
        self.event.set()
        for _ in range(5):
            await asyncio.sleep(0)
        return self.end


async def test_a_cancelled_wait_does_not_cancel_the_operation() -> None:
    operation = Operation()

    async def write() -> None:
        await complete(operation.run())

    task = asyncio.create_task(write())
    await operation.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await operation.settle() == "freed"


async def test_the_write_of_a_cancelled_call_is_not_cancelled() -> None:
    operation = Operation()
    context = AsyncMock(time_remaining=lambda: None, write=lambda _: operation.run())
    call = Call("Generate", context, MessageReader(), idle=False)
    task = asyncio.create_task(call.write(Empty()))
    await operation.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await operation.settle() == "freed"


async def test_a_read_that_times_out_is_not_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_reader, "TIMEOUT_S", 0.01)
    operation = Operation()
    with pytest.raises(ClientStalledError):
        await MessageReader().read(operation.run, "a")

    assert await operation.settle() == "freed"


async def test_the_read_of_a_cancelled_call_is_not_cancelled() -> None:
    operation = Operation()
    task = asyncio.create_task(MessageReader().read(operation.run, "a"))
    await operation.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await operation.settle() == "freed"


async def test_an_evicted_read_is_not_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_reader, "SLOW_READS_MAX", 1)
    monkeypatch.setattr(message_reader, "FAIR_S", 0.0)
    reader, operations = MessageReader(), (Operation(), Operation())
    tasks = []
    for operation in operations:
        tasks.append(asyncio.create_task(reader.read(operation.run, "a")))
        await operation.begun.wait()
    with pytest.raises(ServiceError):
        await tasks[0]

    assert [await operation.settle() for operation in operations] == ["freed", "freed"]
    assert await tasks[1] == b"x"
