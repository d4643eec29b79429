"""A generation that arrives event by event, for asyncio."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import grpc

from eudai.results import Result
from eudai.streaming import StreamState, require_call
from eudai.v1 import generation_service_pb2 as pb


class AsyncStream:
    """A running generation, as `Stream`, for asyncio.

    >>> async with async_client.generate("gemma3:270m", "hi") as stream:
    ...     async for text in stream.text:
    ...         print(text, end="|")
    Hello| there!|
    >>> (await stream.result()).finish_reason
    'STOP'
    """

    def __init__(self, start: Callable[[], Any], state: StreamState) -> None:
        """`start` starts the call."""
        self._start = start
        self._state = state
        self._call: Any = None

    async def __aenter__(self) -> Self:
        """Start the call."""
        require_call(self._call, exists=False)
        self._call = self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel the call, unless it is complete."""
        self._call.cancel()

    @property
    def text(self) -> AsyncIterator[str]:
        """The answer, piece by piece. Reasoning and other events are only in the result."""
        self._take()
        return self._texts()

    @property
    def events(self) -> AsyncIterator[pb.GenerateResponse]:
        """All events, as messages of the contract."""
        self._take()
        return self._read()

    @property
    def partial(self) -> Result:
        """The output so far."""
        return self._state.partial()

    async def result(self) -> Result:
        """The whole output, after reading what is left; see `Stream.result`."""
        require_call(self._call)
        if not self._state.is_finished:
            async for _ in self._read():
                pass
        return self._state.result()

    def _take(self) -> None:
        require_call(self._call)
        self._state.take()

    async def _texts(self) -> AsyncIterator[str]:
        async for event in self._read():
            if event.delta.text:
                yield event.delta.text

    async def _read(self) -> AsyncIterator[pb.GenerateResponse]:
        try:
            async for event in self._call:
                self._state.add(event)
                yield event
        except grpc.RpcError as failure:
            raise self._state.error_from(failure) from failure
        self._state.result()  # raises if the last event is missing
