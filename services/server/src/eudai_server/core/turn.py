"""Waits for a turn in a fair queue, and refuses a request at once if it would wait in vain."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator

from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.fair_queue import FairQueue, Ticket

# A refused caller is told when a slot is expected to be free, within these limits.
RETRY_AFTER_S = 1.0
RETRY_AFTER_MAX_S = 30.0
# Spreads the retries of callers that were refused at the same time.
JITTER_SHARE = 0.2


def queue_full(queue: FairQueue) -> ServiceError:
    """The error for a request when the queue is full."""
    return _refusal(
        Reason.QUEUE_FULL,
        f"{queue.max_queued} requests are already waiting for this model, which is the limit "
        "(EUDAI_MAX_QUEUED); retry later",
        queue,
    )


async def wait_for_turn(
    queue: FairQueue,
    ticket: Ticket,
    deadline_s: float | None,
    budget_end_s: float | None = None,
) -> AsyncGenerator[int, None]:
    """Yield how many requests are ahead until the ticket is next or the time budget is spent.

    `deadline_s` and `budget_end_s` are as in `Generation`. Raises ServiceError DEADLINE_TOO_SHORT,
    or QUOTA_EXCEEDED if another caller took the place.
    """
    if queue.is_next(ticket):
        return
    _check_deadline(deadline_s, queue.expected_s(ticket))
    told = None
    while not queue.is_next(ticket):
        ahead = queue.ahead(ticket)
        if ahead != told:
            yield ahead
            told = ahead
        if not await _moves(ticket, budget_end_s):
            return
        if ticket.evicted:
            raise _refusal(
                Reason.QUOTA_EXCEEDED,
                "the queue for this model is full and this caller has the most requests in it; "
                "retry later",
                queue,
            )
    if queue.queued > 1:
        # Only if another request can use the turn: otherwise a wrong estimate is never corrected.
        _check_deadline(deadline_s, queue.first_output_s.value)


async def _moves(ticket: Ticket, budget_end_s: float | None) -> bool:
    """Wait until the queue position may have changed; False if the time budget is spent."""
    left_s = None if budget_end_s is None else max(budget_end_s - time.monotonic(), 0)
    try:
        async with asyncio.timeout(left_s):
            await ticket.moved.wait()
    except TimeoutError:
        return False
    ticket.moved.clear()
    return True


def _check_deadline(deadline_s: float | None, expected_s: float | None) -> None:
    """Refuse a call whose deadline is expected to pass before its first output."""
    if expected_s is None or deadline_s is None:
        return
    left_s = deadline_s - time.monotonic()
    if left_s < expected_s:
        raise ServiceError(
            Reason.DEADLINE_TOO_SHORT,
            f"the first output is expected in about {expected_s:.1f} s, but the call's deadline is "
            f"in {max(left_s, 0):.1f} s; set a longer deadline",
        )


def _refusal(reason: Reason, message: str, queue: FairQueue) -> ServiceError:
    """A refusal with the time until a slot is expected to be free. Nothing has run."""
    wait_s = min(max(queue.expected_place_s or 0.0, RETRY_AFTER_S), RETRY_AFTER_MAX_S)
    jitter = random.uniform(1 - JITTER_SHARE, 1 + JITTER_SHARE)  # noqa: S311 - not a secret
    message = f"{message}; a slot is expected to be free in about {wait_s:.0f} s"
    return ServiceError(reason, message, retry_after_s=wait_s * jitter)
