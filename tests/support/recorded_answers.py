"""Recorded answers of the real Ollama to requests of a scripted model, which the double plays.

`recorded_answers.json` holds the HTTP status and the lines of each answer. Times, ids and the
model's name are left out, and lines that hold one text each are joined to a list of texts.
`make record` runs the tests that use it, and writes it.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import groupby
from pathlib import Path
from typing import Any

from scripted_model.creation import lines_of
from scripted_ollama import Exchange, Script, line, reply, stream

PATH = Path(__file__).with_suffix(".json")
# The version of the Ollama that answered.
VERSION = "0.32.15"
TEXTS = ("message.content", "message.thinking", "response", "thinking")
# The fields of a request on which an answer depends.
FIELDS = ("prompt", "messages", "tools", "think", "format", "logprobs", "top_logprobs", "options")

Recorded = dict[str, Any]


class Recording:
    """The answers of one file of tests, by request."""

    def __init__(self, tests: str, record_from: str | None = None) -> None:
        """`tests` names the file of tests; answers come from `record_from`, an Ollama, if set."""
        self._tests = tests
        self._record_from = record_from
        answers: dict[str, Recorded] = json.loads(PATH.read_text())[tests]
        self._answers = {} if record_from else answers

    def script(self, exchange: Exchange) -> Script:
        """The script for a request. Raises KeyError if it was not recorded."""
        key = _key(exchange)
        if self._record_from:
            self._answers[key] = _recorded(
                *lines_of(self._record_from, exchange.route, exchange.body)
            )
        return _script(self._answers[key])

    def save(self) -> None:
        """Write what was recorded, if anything, with a line for each answer."""
        if not self._record_from:
            return
        files = json.loads(PATH.read_text()) | {self._tests: self._answers}
        PATH.write_text(
            "{\n"
            + ",\n".join(
                f"{json.dumps(tests)}: {{\n"
                + ",\n".join(
                    f"{json.dumps(key)}: {json.dumps(answer, ensure_ascii=False)}"
                    for key, answer in answers.items()
                )
                + "\n}"
                for tests, answers in files.items()
            )
            + "\n}\n"
        )


def _key(exchange: Exchange) -> str:
    asked = {name: exchange.body[name] for name in FIELDS if name in exchange.body}
    if options := asked.get("options"):
        # The server chooses another seed for each request, and a scripted model ignores it.
        asked["options"] = {name: value for name, value in options.items() if name != "seed"}
    digest = zlib.crc32(json.dumps(asked, sort_keys=True).encode())
    return f"{exchange.model.removesuffix(':latest')} {exchange.route} {digest:08x}"


def _recorded(status: int, lines: Iterable[bytes]) -> Recorded:
    """An answer in the form in which it is recorded."""
    kept = [_without_times(json.loads(data)) for data in lines]
    groups: list[Any] = []
    for name, group in groupby(kept, _text_name):
        fields = list(group)
        groups += [{name: [_flat(each)[name] for each in fields]}] if name else fields
    return {"status": status, "lines": groups}


def _script(answer: Recorded) -> Script:
    """An answer as the double plays it."""
    lines: list[dict[str, Any]] = []
    for group in answer["lines"]:
        name = next((name for name in TEXTS if isinstance(group.get(name), list)), None)
        lines += (_text_line(name, text) for text in group[name]) if name else [group]
    if answer["status"] != HTTPStatus.OK:
        return reply(answer["status"], lines[0])
    return stream(*(line(**fields) for fields in lines))


def _text_name(fields: Mapping[str, Any]) -> str | None:
    """The name of the text, if a line holds one text and nothing else."""
    if fields.get("done") is not False:
        return None
    held = [name for name, value in _flat(fields).items() if value]
    return held[0] if len(held) == 1 and held[0] in TEXTS else None


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a line, with those of its message."""
    message = fields.get("message", {})
    return {**fields, "message": None} | {f"message.{name}": message[name] for name in message}


def _text_line(name: str, text: str) -> dict[str, Any]:
    outer, _, inner = name.rpartition(".")
    return {"message": {inner: text}, "done": False} if outer else {inner: text, "done": False}


def _without_times(fields: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        name: value
        for name, value in fields.items()
        if name not in ("model", "created_at") and not name.endswith("_duration")
    }
    if "message" in kept:
        message = {name: value for name, value in kept["message"].items() if name != "role"}
        for number, call in enumerate(message.get("tool_calls", ())):
            call["id"] = f"call_{number}"
        kept["message"] = message
    return kept
