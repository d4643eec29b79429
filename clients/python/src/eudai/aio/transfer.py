"""A pull, a push or a creation of a model, with its progress, for asyncio."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Generic, Self, TypeVar

import grpc

from eudai.call_errors import error_from
from eudai.errors import IncompleteResponseError
from eudai.v1.model_service_pb2 import Model

P = TypeVar("P")


class AsyncTransfer(Generic[P]):
    """A transfer that yields messages with its progress, as `Transfer`, for asyncio.

    >>> async with async_client.pull("gemma3:270m") as pull:
    ...     async for progress in pull:
    ...         print(progress.completed_bytes, "of", progress.total_bytes)
    50 of 100
    100 of 100
    >>> pull.model.name
    'gemma3:270m'
    """

    def __init__(self, start: Callable[[], Any], address: str) -> None:
        """`start` starts the call, at the first iteration."""
        # The iterator must not refer to this object: it ends when a loop that was left drops it.
        self._models: list[Model] = []
        self._progress: AsyncGenerator[P, None] = _read(start, address, self._models)

    async def __aenter__(self) -> Self:
        """Enter the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel the call, unless it is complete."""
        await self._progress.aclose()

    def __aiter__(self) -> AsyncIterator[P]:
        """The progress. Raises the error of the call."""
        return self._progress

    async def wait(self) -> Model:
        """The resulting model, after the end of the transfer."""
        async for _ in self._progress:
            pass
        if not self._models:
            raise RuntimeError("the block was left before the transfer was complete")
        return self._models[0]

    @property
    def model(self) -> Model | None:
        """The resulting model; None before the end of the transfer."""
        return self._models[0] if self._models else None


async def _read(
    start: Callable[[], Any], address: str, models: list[Model]
) -> AsyncGenerator[Any, None]:
    """Yield the progress, and append the resulting model to `models`."""
    call = start()
    try:
        async for response in call:
            if response.WhichOneof("event") == "completed":
                models.append(response.completed)
            elif response.WhichOneof("event") == "progress":
                yield response.progress
    except grpc.RpcError as failure:
        raise error_from(failure, address) from failure
    finally:
        call.cancel()
    if not models:
        raise IncompleteResponseError("the stream ended before the transfer was complete")
