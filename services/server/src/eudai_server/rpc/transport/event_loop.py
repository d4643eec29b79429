"""An event loop that makes gRPC free the memory of failed operations.

grpc.aio frees what it has allocated for an operation, some 270 bytes for a message, only if the
operation's future has a result. A message written to a client that has just left never gets one,
and the memory would leak.
"""

import asyncio
from typing import Any

import uvloop


class EventLoop(uvloop.Loop):  # type: ignore[misc] # mypy does not look into uvloop
    """Completes the futures of failed gRPC operations with a result.

    The failure is not needed: the call has ended, and gRPC cancels its handler.
    """

    def create_future(self) -> "asyncio.Future[Any]":
        """Create a future, as any event loop does."""
        return _Future(loop=self)


class _Future(asyncio.Future[Any]):
    def set_exception(self, exception: type[BaseException] | BaseException, /) -> None:
        # gRPC does not export the class.
        if type(exception).__name__ == "ExecuteBatchError":
            self.set_result(None)
        else:
            super().set_exception(exception)
