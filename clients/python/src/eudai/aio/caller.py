"""The connection of the asyncio client, and how it makes calls."""

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, Self, TypeVar, Unpack

import grpc

from eudai.call_errors import error_from
from eudai.connection import Connection, ConnectionOptions
from eudai.requests import CallOptions

R = TypeVar("R")


class AsyncCaller:
    """A channel to a server, and its end."""

    def __init__(self, address: str | None = None, **options: Unpack[ConnectionOptions]) -> None:
        """As `Client`, but within a running event loop, which owns the client."""
        self._connection = connection = Connection(address, **options)
        credentials, arguments = connection.credentials, connection.channel_options
        self._channel = (
            grpc.aio.secure_channel(connection.address, credentials, arguments)
            if credentials
            else grpc.aio.insecure_channel(connection.address, arguments)
        )

    async def __aenter__(self) -> Self:
        """Enter the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the client."""
        await self.close()

    async def close(self) -> None:
        """Cancel all calls, and close the connection."""
        await self._channel.close()

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel, for the stubs of `eudai.v1`."""
        return self._channel

    async def _call(
        self,
        method: Callable[..., Awaitable[R]],
        request: Any,
        options: CallOptions,
        *,
        model: str = "",
        timeout_s: float | None = None,
    ) -> R:
        """The response of a unary call. Raises EudaiError."""
        arguments = self._connection.call_arguments(options, model, timeout_s)
        try:
            return await method(request, **arguments)
        except grpc.RpcError as failure:
            raise error_from(failure, self._connection.address) from failure

    async def _collect(
        self, method: Callable[..., AsyncIterable[R]], request: Any, options: CallOptions
    ) -> list[R]:
        """All responses of a streaming call. Raises EudaiError."""

        async def responses(*args: Any, **arguments: Any) -> list[R]:
            return [response async for response in method(*args, **arguments)]

        return await self._call(responses, request, options)
