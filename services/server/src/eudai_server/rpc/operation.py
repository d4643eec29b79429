"""Awaits an operation of gRPC in such a way that a cancellation ends the wait, and not the operation.

grpc.aio releases what an operation holds, its message included, once it has awaited the end of the
operation. Where that wait is cancelled, it never does, and the memory is lost.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def complete(operation: Coroutine[Any, Any, Result]) -> "asyncio.Future[Result]":
    """What the operation returns or raises.

    An operation whose future is cancelled ends by itself: gRPC ends all of a call with the call.
    """
    return asyncio.shield(asyncio.ensure_future(operation))
