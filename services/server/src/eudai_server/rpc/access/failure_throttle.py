"""Limits how often one peer may present credentials that are not valid.

Guessing a token is hopeless anyway. The limit bounds the log and the work for wrong credentials.
"""

import time

# A peer may fail this often at once, and once more for each of the seconds that follow.
FAILURES_MAX = 20
RECOVERY_S = 1.0
# The peers that are remembered. If there are more, those that failed first are forgotten.
PEERS_MAX = 4096


class FailureThrottle:
    """The failures of each peer, as the time when the last of them is forgiven."""

    def __init__(self) -> None:
        """Start without failures."""
        self._forgiven_s: dict[str, float] = {}

    def wait_s(self, peer: str) -> float:
        """How long a peer must wait before its next credential is examined; 0 if not at all."""
        left_s = self._forgiven_s.get(peer, 0.0) - time.monotonic()
        return max(left_s - (FAILURES_MAX - 1) * RECOVERY_S, 0.0)

    def record(self, peer: str) -> None:
        """Record a failure."""
        begin_s = max(self._forgiven_s.pop(peer, 0.0), time.monotonic())
        if len(self._forgiven_s) >= PEERS_MAX:
            del self._forgiven_s[next(iter(self._forgiven_s))]
        self._forgiven_s[peer] = begin_s + RECOVERY_S
