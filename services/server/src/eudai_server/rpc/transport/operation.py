"""Awaits a gRPC operation so that a cancellation ends the wait but not the operation.

grpc.aio frees what it has allocated for an operation, 80 bytes or more, when its wait for the end
of the operation returns. If that wait is cancelled, the memory leaks.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def complete(operation: Coroutine[Any, Any, Result]) -> "asyncio.Future[Result]":
    """A future of what the operation returns or raises.

    If the future is cancelled, the operation still ends: gRPC ends all operations of a call with
    the call.
    """
    return asyncio.shield(asyncio.ensure_future(operation))
