"""Writes log records as JSON lines to standard error.

Log records never contain a prompt, an answer or a credential.
"""

import json
import logging
from datetime import UTC, datetime

TEXT_CHARS_MAX = 1000

_encode = json.JSONEncoder(default=str).encode


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Control characters are escaped, long texts are cut, and `extra={"fields": …}` is merged in.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage()[:TEXT_CHARS_MAX],
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _encode(line)


def configure_logging() -> None:
    """Log at level INFO; libraries at WARNING."""
    # No record has these, and finding them out costs more than writing a record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("eudai_server").setLevel(logging.INFO)
