"""The pieces of a file go in; the same come out, but for the last one, which is held back until the digest is known to be right.

Ollama keeps whatever it was sent to the end, under the digest that it has. Bytes that are not the caller's must not get so far.
"""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable


class Upload:
    """One file on its way through, in constant memory."""

    def __init__(self, digest: str, data: AsyncIterable[bytes]) -> None:
        """`digest` is what the bytes must have."""
        self.size_bytes = 0
        self.mismatched = False
        self._digest = digest
        self._data = data
        self._sha256 = hashlib.sha256()

    async def checked(self) -> AsyncGenerator[bytes, None]:
        """The pieces. Raises ConnectionAbortedError before the last one where the digest is another, which breaks the request off."""
        held = b""
        async for piece in self._data:
            if not piece:
                continue
            if held:
                yield held
            self._sha256.update(piece)
            self.size_bytes += len(piece)
            held = piece
        self.mismatched = f"sha256:{self._sha256.hexdigest()}" != self._digest
        if self.mismatched:
            raise ConnectionAbortedError
        yield held
