"""The pieces of a file go in; the same come out, but for the last one, which is held back until the digest is known to be right.

Ollama keeps whatever it was sent to the end, under the digest that it has. Bytes that are not the caller's must not get so far.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable

from eudai_server.errors import InvalidRequestError, Violation


class Upload:
    """One file on its way through, in constant memory."""

    def __init__(
        self, digest: str, data: AsyncIterable[bytes], limit: asyncio.Timeout, silence_s: float
    ) -> None:
        """`digest` is what the bytes must have.

        `limit` is to end the upload once Ollama has taken or answered nothing for `silence_s`. How
        long the client may be silent, `data` knows.
        """
        self.size_bytes = 0
        # What ended the pieces, if anything did: the HTTP library does not pass it on.
        self.failure: Exception | None = None
        self._digest = digest
        self._data = data
        self._limit = limit
        self._silence_s = silence_s
        self._sha256 = hashlib.sha256()

    async def checked(self) -> AsyncGenerator[bytes, None]:
        """The pieces.

        Where the digest is another one, or the client fails, ConnectionAbortedError breaks the request
        off before the last piece.
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
