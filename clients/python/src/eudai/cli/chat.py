"""The command `eudai chat`."""

import atexit
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click

import eudai
from eudai.cli.completion import complete_model
from eudai.cli.explanation import explanation
from eudai.cli.options import Connect, generation_options, model_option
from eudai.cli.terminal import console, note, show
from eudai.v1.content_pb2 import Media

HISTORY_LINES_MAX = 1000
QUOTES = '"""'
HELP = """\
/system TEXT   set the system message; without TEXT, use the model's own
/model NAME    continue with another model
/image FILE    add an image or audio file to the next message
/clear         forget the conversation
/help          show this
/quit          end, like Ctrl-D
Ctrl-C stops an answer. A line that ends with \\ continues in the next one, and so does
everything between two lines of \"\"\"."""


@click.command()
@click.argument("reference", metavar="[MODEL]", required=False, shell_complete=complete_model)
@model_option
@generation_options
@click.pass_obj
def chat(connect: Connect, /, reference: str | None, model: str, **options: Any) -> None:
    """Talk with a model; /help lists the commands. MODEL is short for --model MODEL."""
    model = reference or model
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        _use_history()
        note(f"chatting with {model}; /help lists the commands, Ctrl-D ends")
    session = Session(connect(), model, {**options, "progress": is_terminal})
    while (text := _read(is_terminal=is_terminal)) is not None:
        if text.startswith("/"):
            if not session.command(*text[1:].partition(" ")[::2]):
                return
        elif text.strip():
            session.answer(text)


class Session:
    """A conversation at a terminal."""

    def __init__(self, client: eudai.Client, model: str, options: dict[str, Any]) -> None:
        """Start without messages."""
        self._client = client
        self._options = options
        self._media: list[Media] = []
        self._chat = client.chat(model, **options)
        self._model = model

    def answer(self, text: str) -> None:
        """Stream the answer to a message. Ctrl-C stops it; a failure is one line."""
        try:
            with self._chat.send(text, media=self._media) as stream:
                show(stream, console(stderr=not sys.stdout.isatty()))
            self._media = []
        except KeyboardInterrupt:
            note("stopped; neither the question nor the answer is remembered")
        except (eudai.EudaiError, OSError, ValueError) as error:
            note(explanation(error))

    def command(self, name: str, argument: str) -> bool:
        """Run a / command; returns false at the end of the conversation."""
        match name:
            case "quit" | "exit" | "bye":
                return False
            case "clear":
                self._chat.messages.clear()
            case "model" if argument:
                self._model = argument
                self._restart()
            case "system":
                self._options["system"] = argument or None
                self._restart()
            case "image" if argument:
                self._add_image(argument)
            case "help":
                print(HELP)
            case _:
                note(f"/{name} is not a command, or needs an argument; see /help")
        return True

    def _add_image(self, path: str) -> None:
        try:
            self._media.append(eudai.media_from(path))
        except (OSError, ValueError) as error:
            note(explanation(error))

    def _restart(self) -> None:
        """Continue the conversation with other options."""
        messages = self._chat.messages
        self._chat = self._client.chat(self._model, messages=messages, **self._options)


def _read(*, is_terminal: bool) -> str | None:
    """The next message, which may have several lines; None at the end."""
    lines: list[str] = []
    is_quoted = False
    while True:
        prompt = ("... " if lines or is_quoted else ">>> ") if is_terminal else ""
        try:
            line = input(prompt)
        except EOFError:
            return "\n".join(lines) if lines else None
        except KeyboardInterrupt:
            print()
            lines, is_quoted = [], False
            continue
        if line.strip() == QUOTES:
            if is_quoted:
                return "\n".join(lines)
            is_quoted = True
        elif line.endswith("\\") and not is_quoted:
            lines.append(line[:-1])
        else:
            lines.append(line)
            if not is_quoted:
                return "\n".join(lines)


def _use_history() -> None:
    """Edit lines with the history of earlier chats, where Python has readline."""
    with contextlib.suppress(ImportError, OSError):
        import readline  # noqa: PLC0415 - it takes over the terminal

        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
        path = Path(state) / "eudai" / "history"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        readline.read_history_file(path)
        readline.set_history_length(HISTORY_LINES_MAX)
        atexit.register(readline.write_history_file, path)
