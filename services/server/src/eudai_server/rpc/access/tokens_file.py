"""Reads the file of tokens again whenever it changes, without a restart."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from eudai_server.rpc.access.tokens import (
    FILE_BYTES_MAX,
    Entry,
    Tokens,
    TokensFileError,
    entries_from,
)

INTERVAL_S = 1.0

log = logging.getLogger(__name__)


class TokensFile:
    """The tokens in a file, as they were when the file was last valid."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises TokensFileError."""
        self._path = path
        self._data = _read(path)
        self.tokens = Tokens(entries_from(self._data))

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Read the file every second until cancelled, and call `on_change` after each change.

        A file that is missing or not valid leaves the tokens as they are.
        """
        complaint = ""
        while True:
            try:
                if await asyncio.to_thread(self._read_again):
                    log.info("the tokens file was read again")
                complaint = ""
            except TokensFileError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    log.warning("the tokens file is not used: it %s", complaint)
            on_change()
            await asyncio.sleep(INTERVAL_S)

    def _read_again(self) -> bool:
        data = _read(self._path)
        if data == self._data:
            return False
        self.tokens = Tokens(entries_from(data))
        self._data = data
        return True


def read_entries(path: Path) -> tuple[Entry, ...]:
    """The entries of a file. Raises TokensFileError."""
    return entries_from(_read(path))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise TokensFileError(f"cannot be read: {error.strerror}") from None
