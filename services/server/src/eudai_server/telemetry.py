"""Log records go in; one JSON line each comes out on standard error. Never a prompt, an answer or a credential."""

import json
import logging
from datetime import UTC, datetime

TEXT_CHARS_MAX = 1000


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: control characters escaped, texts cut, `extra={"fields": …}` merged in."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage()[:TEXT_CHARS_MAX],
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logging() -> None:
    """Log at INFO, libraries at WARNING."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("eudai_server").setLevel(logging.INFO)
