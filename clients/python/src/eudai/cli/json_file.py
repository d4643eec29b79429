"""Options whose value is a file with JSON."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from google.protobuf.json_format import ParseDict, ParseError

from eudai.v1 import content_pb2, generation_service_pb2 as pb

FILE_BYTES_MAX = 16 << 20  # a request may have 8 MiB, and base64 is longer
REASON_CHARACTERS_MAX = 300


class JsonFile(click.Path):
    """A file with JSON, which `convert` turns into the value of the option."""

    def __init__(self, converter: Callable[[Any], Any]) -> None:
        """`converter` raises ValueError or ParseError if the JSON is not what it should be."""
        super().__init__(exists=True, dir_okay=False)
        self._converter = converter

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value of the option. Reads a limited number of bytes."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            self.fail(f"{path}: larger than {FILE_BYTES_MAX >> 20} MiB", param, ctx)
        try:
            parsed = json.loads(data)
        except (ValueError, RecursionError) as error:
            self.fail(f"{path}: not JSON: {error}", param, ctx)
        try:
            return self._converter(parsed)
        except (ValueError, ParseError) as error:
            self.fail(f"{path}: {str(error)[:REASON_CHARACTERS_MAX]}", param, ctx)


def schema_from(value: Any) -> dict[str, Any]:
    """A JSON Schema."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the file is wrong, not the program
    return value


def messages_from(value: Any) -> list[content_pb2.Message]:
    """Messages in the protobuf JSON mapping."""
    return list(ParseDict({"messages": value}, pb.Conversation()).messages)


def tools_from(value: Any) -> list[content_pb2.Tool]:
    """Tools in the protobuf JSON mapping."""
    return list(ParseDict({"tools": value}, pb.GenerateRequest()).tools)
