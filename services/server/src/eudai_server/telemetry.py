"""Writes log records as JSON lines to standard error.

Log records never contain a prompt, an answer or a credential. The text of an exception may quote
one, so of an exception only its type and its place in the code are written.
"""

import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime

TEXT_CHARS_MAX = 1000
ENTRIES_MAX = 64

_encode = json.JSONEncoder(default=lambda value: _bounded(str(value))).encode


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Control characters are escaped, long texts are cut, and `extra={"fields": …}` is merged in. A
    field cannot replace the time, the level or the message.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            # asyncio describes an exception with its text below the first line.
            "message": record.getMessage().partition("\n")[0][:TEXT_CHARS_MAX],
        }
        if record.exc_info and record.exc_info[1]:
            line["trace"] = _trace_of(record.exc_info[1])
        for name, value in getattr(record, "fields", {}).items():
            line.setdefault(name, _bounded(value))
        return _encode(line)


def configure_logging() -> None:
    """Log at level INFO; libraries at WARNING."""
    # No record has these, and finding them out costs more than writing a record. The last one is
    # the caller's place in the source; logging documents this name to turn it off.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("eudai_server").setLevel(logging.INFO)


def _bounded(value: object) -> object:
    """A value of a field, with long texts cut."""
    if isinstance(value, str):
        return value[:TEXT_CHARS_MAX]
    if isinstance(value, Mapping):
        entries = list(value.items())[:ENTRIES_MAX]
        return {str(key)[:TEXT_CHARS_MAX]: _bounded(entry) for key, entry in entries}
    return value


def _trace_of(error: BaseException) -> str:
    """The types of an exception and its causes, and where in the code each was raised."""
    lines: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause and id(cause) not in seen:
        seen.add(id(cause))
        lines.append(type(cause).__qualname__)
        lines += [
            f"  {frame.filename}:{frame.lineno} in {frame.name}"
            for frame in traceback.extract_tb(cause.__traceback__)
        ]
        cause = cause.__cause__ or cause.__context__
    return "\n".join(lines)
