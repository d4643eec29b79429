"""Reads request messages within a limit of time, and bounds the memory of those still on their way.

gRPC does not tell how long a message is before all of it has arrived, so each one that is on its
way may come to hold MESSAGE_BYTES_MAX. A message that is whole within YOUNG_S costs its own size
only: what all senders together can deliver in that time is bounded by the machine. A read that
takes longer needs one of SLOW_READS_MAX places. Where all are taken, the read that is least fair
to the others ends: the oldest one of the caller with the most, once that one has had FAIR_S, or
else the new one.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from eudai_server.errors import Reason, ServiceError
from eudai_server.rpc.operation import complete

# A photograph or a minute of sound beside a long conversation.
MESSAGE_BYTES_MAX = 8 << 20
# The budget of bytes on their way is 32 MiB: these, and one more that is young or being decoded.
SLOW_READS_MAX = 3
YOUNG_S = 0.02
# When the event loop is late, messages that are here already need a moment to be seen.
LATE_S = 0.005
LATE_CHECKS_MAX = 20
FAIR_S = 2.0
TIMEOUT_S = 30.0
RETRY_AFTER_S = 1.0

Read = Callable[[], Coroutine[Any, Any, Any]]


class ClientStalledError(Exception):
    """The client is connected and neither reads nor sends; the message says which."""


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
        """No read is under way."""
        self._slow: list[_SlowRead] = []

    @property
    def slow_reads(self) -> int:
        """Messages that have been on their way for a while."""
        return len(self._slow)

    async def read(self, read: Read, caller: str) -> Any:
        """The next message of a call, as gRPC's `read` returns it.

        Raises ClientStalledError after TIMEOUT_S, and ServiceError QUEUE_FULL where too many
        messages are on their way.
        """
        # The future alone is cancelled; gRPC goes on reading until the call ends.
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
    """Whether a message is whole within YOUNG_S, not counting how late the event loop is."""
    loop = asyncio.get_running_loop()
    await asyncio.wait((task,), timeout=YOUNG_S)
    for _ in range(LATE_CHECKS_MAX):
        begin_s = loop.time()
        await asyncio.wait((task,), timeout=LATE_S)
        if task.done() or loop.time() - begin_s < 2 * LATE_S:
            break
    return task.done()


def _too_many() -> ServiceError:
    return ServiceError(
        Reason.QUEUE_FULL,
        "the server is receiving too many large messages; retry the call",
        retry_after_s=RETRY_AFTER_S,
    )
