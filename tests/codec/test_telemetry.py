"""Log records: one valid JSON line each, bounded, without the texts of exceptions."""

import json
import logging
import sys
from typing import Any

from eudai_server.telemetry import TEXT_CHARS_MAX, JsonFormatter
from hypothesis import given, strategies as st

CANARY = "canary-6f1c"


def formatted(message: str, fields: Any = None, exc_info: Any = None) -> dict[str, Any]:
    """The record that a message becomes. Fails unless it is one line."""
    record = logging.LogRecord("x", logging.ERROR, "p", 1, message, (), exc_info)
    if fields is not None:
        record.fields = fields
    text = JsonFormatter().format(record)
    assert text.isascii()
    assert text.isprintable()
    decoded: dict[str, Any] = json.loads(text)
    return decoded


@given(message=st.text(), value=st.text(), name=st.text())
def test_a_record_is_one_line_whatever_callers_write(message: str, value: str, name: str) -> None:
    record = formatted(message, {"model": value, "labels": {name: value}})

    assert record["model"] == value[:TEXT_CHARS_MAX]
    assert record["labels"] == {name: value}
    assert record["level"] == "error"


def test_fields_cannot_replace_time_level_and_message() -> None:
    record = formatted("real", {"time": "forged", "level": "info", "message": "forged"})

    assert (record["level"], record["message"]) == ("error", "real")
    assert record["time"] != "forged"


def test_long_texts_are_cut() -> None:
    long = "x" * 1_000_000
    record = formatted(long, {"model": long, "labels": {long: long}})

    assert len(json.dumps(record)) < 5 * TEXT_CHARS_MAX
    assert len(record["message"]) == len(record["model"]) == TEXT_CHARS_MAX
    [(name, value)] = record["labels"].items()
    assert len(name) == len(value) == TEXT_CHARS_MAX


def raised() -> Any:
    """The exc_info of an exception and its cause, which both have the canary."""
    try:
        try:
            int(CANARY)
        except ValueError as error:
            raise RuntimeError(f"because {CANARY}") from error
    except RuntimeError:
        return sys.exc_info()


def test_a_trace_has_types_and_places_but_no_texts() -> None:
    record = formatted("internal error", exc_info=raised())

    assert CANARY not in json.dumps(record)
    assert record["trace"].splitlines()[0] == "RuntimeError"
    assert "ValueError" in record["trace"]
    assert "test_telemetry.py" in record["trace"]
    assert "in raised" in record["trace"]


def test_a_message_ends_with_its_first_line() -> None:
    """As asyncio writes it for a task whose exception nobody has read."""
    record = formatted(f"Task exception was never retrieved\nfuture: <Task {CANARY}>")

    assert record["message"] == "Task exception was never retrieved"
