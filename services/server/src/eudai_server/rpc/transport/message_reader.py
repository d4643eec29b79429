"""Reads request messages with a time limit, and bounds the memory of messages that are arriving.

gRPC does not tell the length of a message before it has arrived completely, so each arriving
message may need up to MESSAGE_BYTES_MAX. A message that completes within YOUNG_S costs only its own
size: the machine's network bounds the total. A slower read needs one of SLOW_READS_MAX places. If
all are taken, the least fair read ends: the oldest read of the caller with the most reads, if that
one has had FAIR_S, otherwise the new read.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from eudai_server.core.errors import Reason, ServiceError
from eudai_server.rpc.transport.operation import complete

# Three slow reads need up to 24 MiB. Young ones need what the network delivers within YOUNG_S.
SLOW_READS_MAX = 3
YOUNG_S = 0.02
# When the event loop is late, messages that have arrived need a moment to be processed.
LATE_S = 0.005
LATE_CHECKS_MAX = 20
FAIR_S = 2.0
TIMEOUT_S = 30.0
RETRY_AFTER_S = 1.0

Read = Callable[[], Coroutine[Any, Any, Any]]


class ClientStalledError(Exception):
    """The client is connected but does not read or send; the message says which."""


class _SlowRead:
    """A read that has taken longer than YOUNG_S."""

    def __init__(self, caller: str) -> None:
        self.caller = caller
        self.begin_s = time.monotonic()
        self.eviction: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def evicted(self) -> bool:
        return self.eviction.done()

    def evict(self) -> None:
        self.eviction.set_result(None)


class MessageReader:
    """Reads the messages of all calls."""

    def __init__(self) -> None:
        """Start without reads."""
        self._slow: list[_SlowRead] = []

    @property
    def slow_reads(self) -> int:
        """The number of reads that have taken longer than YOUNG_S."""
        return len(self._slow)

    async def read(self, read: Read, caller: str) -> Any:
        """The next message of a call, as gRPC's `read` returns it.

        Raises ClientStalledError after TIMEOUT_S, and ServiceError QUEUE_FULL if too many messages
        are arriving.
        """
        # Only the future is cancelled; gRPC continues to read until the call ends.
        task = complete(read())
        try:
            if await _arrives(task):
                return task.result()
            return await self._read_slowly(task, caller)
        finally:
            task.cancel()

    async def _read_slowly(self, task: "asyncio.Future[Any]", caller: str) -> Any:
        slow = _SlowRead(caller)
        self._make_room(slow)
        self._slow.append(slow)
        try:
            await asyncio.wait(
                (task, slow.eviction), timeout=TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._slow.remove(slow)
        if slow.evicted:
            raise _too_many()
        if not task.done():
            raise ClientStalledError(
                f"the client did not send a complete message within {TIMEOUT_S:g} s"
            )
        return task.result()

    def _make_room(self, slow: _SlowRead) -> None:
        held = [other for other in self._slow if not other.evicted]
        if len(held) < SLOW_READS_MAX:
            return
        counts = Counter(other.caller for other in [*held, slow])
        least_fair = max(held, key=lambda other: (counts[other.caller], -other.begin_s))
        has_more = counts[least_fair.caller] > counts[slow.caller]
        if not has_more and slow.begin_s - least_fair.begin_s < FAIR_S:
            raise _too_many()
        least_fair.evict()


async def _arrives(task: "asyncio.Future[Any]") -> bool:
    """Whether a message completes within YOUNG_S, not counting delays of the event loop."""
    loop = asyncio.get_running_loop()
    await asyncio.wait((task,), timeout=YOUNG_S)
    checks = 0
    while not task.done() and checks < LATE_CHECKS_MAX:
        checks += 1
        begin_s = loop.time()
        await asyncio.wait((task,), timeout=LATE_S)
        if loop.time() - begin_s < 2 * LATE_S:
            break
    return task.done()


def _too_many() -> ServiceError:
    return ServiceError(
        Reason.QUEUE_FULL,
        "the server is receiving too many messages that are large or slow; retry the call",
        retry_after_s=RETRY_AFTER_S,
    )
