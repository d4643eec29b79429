"""The connection of the blocking client, and how it makes calls."""

from collections.abc import Callable, Iterable
from typing import Any, Self, TypeVar, Unpack

import grpc

from eudai.call_errors import error_from
from eudai.connection import Connection, ConnectionOptions
from eudai.requests import CallOptions

R = TypeVar("R")

# Let the thread that reads a stream receive its events, without gRPC's own thread. Otherwise a
# KeyboardInterrupt can leave a lock of that thread locked, and all later calls hang.
_SINGLE_THREADED = ("SingleThreadedUnaryStream", 1)


class Caller:
    """A channel to a server, and its end."""

    def __init__(self, address: str | None = None, **options: Unpack[ConnectionOptions]) -> None:
        """`address` is host:port or unix:path; by default EUDAI_ADDRESS, or 127.0.0.1:50051.

        Connects at the first call. Raises ConfigError if an option is wrong.
        """
        self._connection = connection = Connection(address, **options)
        credentials = connection.credentials
        arguments = (*connection.channel_options, _SINGLE_THREADED)
        self._channel = (
            grpc.secure_channel(connection.address, credentials, arguments)
            if credentials
            else grpc.insecure_channel(connection.address, arguments)
        )

    def __enter__(self) -> Self:
        """Enter the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Cancel all calls, and close the connection.

        >>> client = eudai.Client(address)
        >>> client.close()
        """
        self._channel.close()

    @property
    def channel(self) -> grpc.Channel:
        """The channel, for the stubs of `eudai.v1`.

        >>> from eudai.v1 import server_service_pb2, server_service_pb2_grpc
        >>> stub = server_service_pb2_grpc.ServerServiceStub(client.channel)
        >>> stub.GetServerInfo(server_service_pb2.GetServerInfoRequest()).version
        '0.1.0'
        """
        return self._channel

    def _call(
        self,
        method: Callable[..., R],
        request: Any,
        options: CallOptions,
        *,
        model: str = "",
        timeout_s: float | None = None,
    ) -> R:
        """The response of a unary call. Raises EudaiError."""
        arguments = self._connection.call_arguments(options, model, timeout_s)
        try:
            return method(request, **arguments)
        except grpc.RpcError as failure:
            raise error_from(failure, self._connection.address) from failure

    def _collect(
        self, method: Callable[..., Iterable[R]], request: Any, options: CallOptions
    ) -> list[R]:
        """All responses of a streaming call. Raises EudaiError."""
        return self._call(
            lambda *args, **arguments: list(method(*args, **arguments)), request, options
        )
