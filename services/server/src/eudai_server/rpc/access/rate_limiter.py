"""Limits how often something may happen for each of many keys, in bounded memory."""

import time

# The keys that are remembered. If there are more, those that came first are forgotten.
KEYS_MAX = 4096


class RateLimiter:
    """A bucket for each key, as the time when it will be empty."""

    def __init__(self) -> None:
        """Start with empty buckets."""
        self._empty_s: dict[str, float] = {}

    def wait_s(self, key: str, capacity: int, drain_s: float) -> float:
        """How long to wait until the bucket has room for one more; 0 if it has room.

        It has room for `capacity`, of which one drains every `drain_s`.
        """
        left_s = self._empty_s.get(key, 0.0) - time.monotonic()
        return max(left_s - (capacity - 1) * drain_s, 0.0)

    def add(self, key: str, drain_s: float) -> None:
        """Put one into the bucket, which drains within `drain_s`."""
        begin_s = max(self._empty_s.pop(key, 0.0), time.monotonic())
        if len(self._empty_s) >= KEYS_MAX:
            del self._empty_s[next(iter(self._empty_s))]
        self._empty_s[key] = begin_s + drain_s
