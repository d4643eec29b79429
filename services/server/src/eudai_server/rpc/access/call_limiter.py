"""Holds every caller to its limits of calls, before the messages of these calls are read.

The counts are those of this process. A limit for all replicas belongs to the gateway in front.
"""

from collections import Counter

from eudai_server.core.call_limits import CallLimits
from eudai_server.core.errors import Reason, ServiceError
from eudai_server.rpc.access.rate_limiter import RateLimiter

MINUTE_S = 60.0
RETRY_AFTER_S = 1.0
# The health watches and reflection streams of one caller, which only the caller ends. A mesh needs
# one watch for each proxy, and its proxies have different addresses.
IDLE_CALLS_MAX = 128


class CallLimiter:
    """The running calls of each caller, and how many it has begun lately."""

    def __init__(self) -> None:
        """Start without calls."""
        # By the caller, and whether the calls are idle.
        self._running: Counter[tuple[str, bool]] = Counter()
        self._begun = RateLimiter()

    def enter(self, caller: str, limits: CallLimits, *, idle: bool) -> None:
        """Count a call that begins. Raises QUOTA_EXCEEDED, and then does not count it.

        `idle` is whether only the caller ends it, so that the limits do not apply.
        """
        running = self._running[caller, idle]
        if idle:
            if running >= IDLE_CALLS_MAX:
                raise _quota_exceeded(
                    f"this caller has {IDLE_CALLS_MAX} open health watches and reflection streams, "
                    "which is the limit; close one of them"
                )
        else:
            if limits.calls_at_once is not None and running >= limits.calls_at_once:
                raise _quota_exceeded(
                    f"{running} calls of this caller are running, which is its limit "
                    "(calls_at_once); retry when one of them has ended"
                )
            self._begin(caller, limits.calls_per_minute)
        self._running[caller, idle] = running + 1

    def leave(self, caller: str, *, idle: bool) -> None:
        """Count a call that has ended, after `enter`."""
        self._running[caller, idle] -= 1
        if not self._running[caller, idle]:
            del self._running[caller, idle]

    def _begin(self, caller: str, calls_per_minute: int | None) -> None:
        if calls_per_minute is None:
            return
        drain_s = MINUTE_S / calls_per_minute
        wait_s = self._begun.wait_s(caller, calls_per_minute, drain_s)
        if wait_s:
            raise _quota_exceeded(
                f"this caller begins more than {calls_per_minute} calls a minute, which is its "
                "limit (calls_per_minute); retry later",
                wait_s,
            )
        self._begun.add(caller, drain_s)


def _quota_exceeded(message: str, retry_after_s: float = RETRY_AFTER_S) -> ServiceError:
    return ServiceError(Reason.QUOTA_EXCEEDED, message, retry_after_s=retry_after_s)
