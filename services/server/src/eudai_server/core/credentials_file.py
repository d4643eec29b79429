"""Reads a file of credentials again whenever it changes, without a restart."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

INTERVAL_S = 1.0
FILE_BYTES_MAX = 1 << 20

T = TypeVar("T")

log = logging.getLogger(__name__)


class CredentialsFileError(Exception):
    """A file of credentials is not valid; the message says what to change, and has no secret."""


class CredentialsFile(Generic[T]):
    """The credentials in a file, as they were when the file was last valid."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        """Read the file. `parse` and this raise CredentialsFileError."""
        self.path = path
        self._parse = parse
        self._data = read_credentials(path)
        self.credentials = parse(self._data)

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Read the file every second until cancelled, and call `on_change` each time.

        A file that is missing or not valid leaves the credentials as they are.
        """
        complaint = ""
        while True:
            try:
                if await asyncio.to_thread(self._read_again):
                    log.info("the file %s was read again", self.path)
                complaint = ""
            except CredentialsFileError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    log.warning("the file %s is not used: it %s", self.path, complaint)
            on_change()
            await asyncio.sleep(INTERVAL_S)

    def _read_again(self) -> bool:
        data = read_credentials(self.path)
        if data == self._data:
            return False
        self.credentials = self._parse(data)
        self._data = data
        return True


def read_credentials(path: Path) -> bytes:
    """The content of a file. Raises CredentialsFileError."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CredentialsFileError(f"cannot be read: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise CredentialsFileError(f"is larger than {FILE_BYTES_MAX} bytes")
    return data
