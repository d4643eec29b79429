"""An event loop on which gRPC frees what an operation that failed has held.

grpc.aio frees an operation's memory, its message included, only where the future for it has a
result. A message written to a client that has just left has none, and its memory would be lost.
"""

import asyncio
from typing import Any

import uvloop


class EventLoop(uvloop.Loop):  # type: ignore[misc] # mypy does not look into uvloop
    """Gives failed operations of gRPC a result.

    Nobody misses the failure: the call that it belongs to has ended, and gRPC cancels its handler.
    """

    def create_future(self) -> "asyncio.Future[Any]":
        """As any event loop."""
        return _Future(loop=self)


class _Future(asyncio.Future[Any]):
    def set_exception(self, exception: type[BaseException] | BaseException, /) -> None:
        # gRPC does not export the class.
        if type(exception).__name__ == "ExecuteBatchError":
            self.set_result(None)
        else:
            super().set_exception(exception)
