"""Splits a stream of NDJSON into lines, with bounded memory. No I/O.

Only a line feed ends a line. Go does not escape U+0085, so `str.splitlines` would split a line
there.
"""

from collections.abc import Iterator

from eudai_server.core.errors import Reason, ServiceError

# Ollama's own limit. The longest real line is the last of /api/generate, which contains the whole
# context as numbers.
LINE_BYTES_MAX = 8 << 20


class LineSplitter:
    """Holds at most one incomplete line of LINE_BYTES_MAX, and the bytes of the last `feed`."""

    def __init__(self) -> None:
        """Start at the beginning of a line."""
        self._partial = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that `data` completes, without blank ones; read all of them.

        Raises BACKEND_FAILURE at a line that is longer than LINE_BYTES_MAX.
        """
        head, newline, rest = data.rpartition(b"\n")
        if not newline:
            self._partial += data
            _check_length(self._partial)
            return
        lines = (bytes(self._partial) + head).split(b"\n")
        self._partial = bytearray(rest)
        for line in lines:
            _check_length(line)
            if line and not line.isspace():
                yield line


def _check_length(line: bytes | bytearray) -> None:
    if len(line) > LINE_BYTES_MAX:
        raise ServiceError(
            Reason.BACKEND_FAILURE, f"Ollama sent a line longer than {LINE_BYTES_MAX} bytes"
        )
