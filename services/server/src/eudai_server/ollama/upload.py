"""Forwards a file to Ollama, and holds back its last piece until the digest has been verified.

Ollama stores any file that it received completely, under its real digest. Data that does not match
the caller's digest must not get that far.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterable

from eudai_server.core.errors import InvalidRequestError, Reason, ServiceError, Violation

# A client that sends less than this, on average, occupies the server and Ollama in vain.
BYTES_PER_S_MIN = 16 << 10
SLOW_AFTER_S = 60.0
GIB = 1 << 30


class Upload:
    """One file on its way to Ollama, in constant memory."""

    def __init__(
        self,
        digest: str,
        data: AsyncIterable[bytes],
        limit: asyncio.Timeout,
        *,
        silence_s: float,
        gib_max: int,
    ) -> None:
        """`digest` is the digest that the data must have; `gib_max` is the largest size in GiB.

        `limit` is rescheduled whenever Ollama makes progress, and ends the upload after
        `silence_s`. `data` limits the silence of the client itself.
        """
        self.size_bytes = 0
        # The error that ended the pieces; the HTTP library does not forward it.
        self.failure: Exception | None = None
        self._digest = digest
        self._data = data
        self._limit = limit
        self._silence_s = silence_s
        self._gib_max = gib_max
        self._sha256 = hashlib.sha256()

    async def checked(self) -> AsyncGenerator[bytes, None]:
        """Yield the pieces.

        If the digest differs or the client fails, raises ConnectionAbortedError before the last
        piece, which aborts the request.
        """
        held = b""
        begin_s = time.monotonic()
        try:
            async for piece in self._data:
                if held:
                    self._wait_for_ollama()
                    yield held
                    self._limit.reschedule(None)
                self._sha256.update(piece)
                self.size_bytes += len(piece)
                self._check_size_and_speed(time.monotonic() - begin_s)
                held = piece
            self._check_digest()
        except Exception as error:
            self.failure = error
            raise ConnectionAbortedError from error
        self._wait_for_ollama()
        yield held
        self._wait_for_ollama()

    def _wait_for_ollama(self) -> None:
        self._limit.reschedule(asyncio.get_running_loop().time() + self._silence_s)

    def _check_size_and_speed(self, elapsed_s: float) -> None:
        if self.size_bytes > self._gib_max * GIB:
            limit = f"{self._gib_max} GiB, which is the limit (EUDAI_MAX_UPLOAD)"
            raise InvalidRequestError([Violation("data", f"makes the file larger than {limit}")])
        if elapsed_s > SLOW_AFTER_S and self.size_bytes < BYTES_PER_S_MIN * elapsed_s:
            raise ServiceError(
                Reason.QUOTA_EXCEEDED,
                f"the upload is slower than {BYTES_PER_S_MIN >> 10} KiB a second and was "
                "discarded; repeat it over a faster connection",
            )

    def _check_digest(self) -> None:
        if f"sha256:{self._sha256.hexdigest()}" != self._digest:
            raise InvalidRequestError(
                [Violation("digest", "does not match the data; the upload was discarded")]
            )
