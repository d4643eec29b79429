"""Decodes the stream of a pull, a push or a creation into progress.

No I/O: feed bytes, take progress.
"""

from dataclasses import dataclass, field

import msgspec

from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.models import Transfer, TransferPhase
from eudai_server.ollama.wire.errors import error_from_transfer
from eudai_server.ollama.wire.lines import LineSplitter

# The beginnings of Ollama's statuses.
_PHASES = (
    ("pulling manifest", TransferPhase.RESOLVING),
    ("retrieving manifest", TransferPhase.RESOLVING),
    ("pulling", TransferPhase.TRANSFERRING),
    ("pushing manifest", TransferPhase.WRITING),
    ("pushing", TransferPhase.TRANSFERRING),
    ("verifying", TransferPhase.VERIFYING),
    ("writing", TransferPhase.WRITING),
    ("removing", TransferPhase.WRITING),
)
_WAITS_FOR_REGISTRY = (TransferPhase.RESOLVING, TransferPhase.TRANSFERRING)

_ABSENT = msgspec.Raw()


class _TransferLine(msgspec.Struct):
    # Any JSON value. A union with None would accept only null.
    error: msgspec.Raw = _ABSENT
    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0


_decoder = msgspec.json.Decoder(_TransferLine)


@dataclass(slots=True)
class TransferDecoder:
    """Decodes one stream. `finished` is true when Ollama has reported success."""

    model: str
    finished: bool = False
    # Whether Ollama reported work during which it may send nothing for long.
    is_working: bool = False
    _splitter: LineSplitter = field(default_factory=LineSplitter)
    _completed: dict[str, int] = field(default_factory=dict)
    _total: dict[str, int] = field(default_factory=dict)

    def feed(self, data: bytes) -> Transfer | None:
        """The current progress; None if no line is complete.

        Raises ServiceError for an error line, and BACKEND_FAILURE for a malformed or too long one.
        """
        latest = None
        for line in self._splitter.feed(data):
            latest = self._transfer_from(line)
        return latest

    def close(self) -> None:
        """End the stream; its last line may lack a newline. Raises ServiceError if incomplete."""
        self.feed(b"\n")
        if not self.finished:
            raise ServiceError(
                Reason.BACKEND_STREAM_INTERRUPTED,
                "Ollama ended the transfer early; retry the call to continue it",
            )

    def _transfer_from(self, data: bytes) -> Transfer:
        try:
            line = _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServiceError(
                Reason.BACKEND_FAILURE, "Ollama sent a malformed progress line"
            ) from error
        if bytes(line.error) not in (b"", b"null"):
            raise error_from_transfer(bytes(line.error), self.model)
        self.finished = self.finished or line.status == "success"
        if line.digest and line.total:
            self._total[line.digest] = line.total
            self._completed[line.digest] = line.completed
        phase = next(
            (phase for begin, phase in _PHASES if line.status.startswith(begin)),
            TransferPhase.UNSPECIFIED,
        )
        self.is_working = phase not in _WAITS_FOR_REGISTRY
        return Transfer(
            line.status, phase, sum(self._completed.values()), sum(self._total.values())
        )
