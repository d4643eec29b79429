"""Forwards a file to Ollama, and holds back its last piece until the digest has been verified.

Ollama stores any file that it received completely, under its real digest. Data that does not match
the caller's digest must not get that far.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable

from eudai_server.core.errors import InvalidRequestError, Violation


class Upload:
    """One file on its way to Ollama, in constant memory."""

    def __init__(
        self, digest: str, data: AsyncIterable[bytes], limit: asyncio.Timeout, silence_s: float
    ) -> None:
        """`digest` is the digest that the data must have.

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
        self._sha256 = hashlib.sha256()

    async def checked(self) -> AsyncGenerator[bytes, None]:
        """Yield the pieces.

        If the digest differs or the client fails, raises ConnectionAbortedError before the last
        piece, which aborts the request.
        """
        held = b""
        try:
            async for piece in self._data:
                if held:
                    self._wait_for_ollama()
                    yield held
                    self._limit.reschedule(None)
                self._sha256.update(piece)
                self.size_bytes += len(piece)
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

    def _check_digest(self) -> None:
        if f"sha256:{self._sha256.hexdigest()}" != self._digest:
            raise InvalidRequestError(
                [Violation("digest", "does not match the data; the upload was discarded")]
            )
