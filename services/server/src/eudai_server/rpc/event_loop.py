"""An event loop on which gRPC frees what it has allocated for operations that fail.

grpc.aio frees it, some 270 bytes for a message, only where the future of the operation has a result.
A message to a client that has just left fails, and the memory would be lost.
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
