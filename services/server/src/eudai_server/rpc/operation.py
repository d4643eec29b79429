"""Awaits an operation of gRPC in such a way that a cancellation ends the wait, and not the operation.

grpc.aio frees what it has allocated for an operation, 80 bytes or more, once it has awaited the end
of the operation. Where that wait is cancelled, it never does.
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
