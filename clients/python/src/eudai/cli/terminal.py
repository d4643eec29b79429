"""What the commands write: clean text to standard output, notes to standard error."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf.message import Message
from rich.console import Console
from rich.text import Text

from eudai.cli.json_output import message_fields
from eudai.cli.safe_text import clean, json_text
from eudai.results import Result
from eudai.sync.stream import Stream
from eudai.v1 import generation_service_pb2 as pb

INPUT_CHARACTERS_MAX = 8 << 20
# The header of each column, and its text for a message.
Columns = Mapping[str, Callable[[Any], object]]


def write(text: str) -> None:
    """Write to standard output immediately."""
    sys.stdout.write(clean(text))
    sys.stdout.flush()


def write_json(value: Any) -> None:
    """Write a value to standard output as a line of JSON."""
    write(json_text(value) + "\n")


def note(text: str) -> None:
    """Write a line to standard error."""
    print(f"eudai: {clean(text)}", file=sys.stderr, flush=True)


def read_standard_input() -> str:
    """All of standard input. Raises ValueError if it is more than a request may have."""
    text = sys.stdin.read(INPUT_CHARACTERS_MAX + 1)
    if len(text) > INPUT_CHARACTERS_MAX:
        raise ValueError(f"standard input has more than {INPUT_CHARACTERS_MAX >> 20} Mi characters")
    return text


def console(*, stderr: bool = False) -> Console:
    """A console that shows texts as they are."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def show(stream: Stream, reasoning: Console) -> Result:
    """Write an answer as it arrives; the reasoning goes to its console, dimmed.

    On a terminal, a line says what the request waits for, in detail if it asked for `progress`.
    """
    display = _Display(reasoning)
    try:
        for event in stream.events:
            display.add(event)
    finally:
        display.close()
    return stream.result()


class _Display:
    """What has been shown of one answer."""

    def __init__(self, reasoning: Console) -> None:
        self._reasoning = reasoning
        self._channel = ""
        output = console(stderr=True)
        self._status = output.status("waiting for the server")
        if output.is_terminal:
            self._status.start()

    def add(self, event: pb.GenerateResponse) -> None:
        """Show an event."""
        kind = event.WhichOneof("event")
        if kind == "progress":
            if not self._channel:
                self._status.update(_waiting_for(event.progress))
                self._status.start()
            return
        self._status.stop()
        if kind == "warning":
            note(event.warning.message)
        elif event.delta.reasoning:
            self._reasoning.print(Text(clean(event.delta.reasoning), style="dim"), end="")
            self._channel = "reasoning"
        elif event.delta.text:
            if self._channel == "reasoning":
                self._reasoning.print()
            write(event.delta.text)
            self._channel = "text"

    def close(self) -> None:
        """End the last line."""
        self._status.stop()
        if self._channel:
            write("\n")


def _waiting_for(progress: pb.GenerationProgress) -> str:
    match progress.phase:
        case pb.GENERATION_PHASE_QUEUED:
            return f"waiting for {progress.requests_ahead} other requests"
        case pb.GENERATION_PHASE_LOADING_MODEL:
            return "loading the model"
        case pb.GENERATION_PHASE_EVALUATING_PROMPT:
            return "reading the prompt"
        case _:
            return "generating"


def summary(result: Result) -> str:
    """Why a generation ended, and the numbers of its tokens."""
    usage = result.usage
    return (
        f"{result.finish_reason}, {usage.input_tokens or 0} input tokens, "
        f"{usage.output_tokens or 0} output tokens"
    )


def print_table(columns: list[str], rows: list[list[Any]]) -> None:
    """A table on a terminal; elsewhere lines with tabs."""
    output = console()
    if not output.is_terminal:
        for row in rows:
            write("\t".join(map(str, row)) + "\n")
        return
    from rich.table import Table  # noqa: PLC0415 - slow to import

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(clean(str(cell))) for cell in row))
    output.print(table)


def print_list(found: Iterable[Message], columns: Columns, *, as_json: bool) -> None:
    """Print a table with a row, or JSON with a line, for each message."""
    if as_json:
        for each in found:
            write_json(message_fields(each))
        return
    rows = [[text(each) for text in columns.values()] for each in found]
    print_table(list(columns), rows)


def size_text(size_bytes: float) -> str:
    """A size for people."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:  # noqa: PLR2004 - the ratio of the units
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"


def silence_broken_pipe() -> None:
    """Keep Python from reporting at its exit that the reader of the output has ended."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
