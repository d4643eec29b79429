"""Awaits a gRPC operation so that a cancellation ends the wait but not the operation.

grpc.aio frees what it has allocated for an operation, 80 bytes or more, when its wait for the end
of the operation returns. If that wait is cancelled, the memory leaks.
"""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")


def complete(operation: Coroutine[Any, Any, Result]) -> "asyncio.Future[Result]":
    """A future of what the operation returns or raises. The operation starts at once.

    If the future is cancelled, the operation still ends: gRPC ends all operations of a call with
    the call. The operation runs in callbacks, because a task for each one costs more than encoding
    a token. So it must not use the current task, which no operation of gRPC does.
    """
    done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    _step(operation, done)
    return done


def _step(operation: Coroutine[Any, Any, Result], done: "asyncio.Future[Result]", *_: Any) -> None:
    """Run the operation until it waits, and again when that wait is over."""
    try:
        awaited = operation.send(None)
    except StopIteration as end:
        if not done.done():
            done.set_result(end.value)
    except Exception as error:  # noqa: BLE001 - whoever awaits the future gets it
        if not done.done():
            done.set_exception(error)
    else:
        # As a task does with what its coroutine awaits; None is one pass of the event loop.
        if awaited is None:
            asyncio.get_running_loop().call_soon(_step, operation, done)
        else:
            awaited._asyncio_future_blocking = False  # noqa: SLF001
            awaited.add_done_callback(partial(_step, operation, done))
