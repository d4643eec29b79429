"""Options that several commands have."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

import eudai
from eudai.cli.completion import complete_model
from eudai.connection import Connection

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_MODEL = "gemma3:270m"
TIMEOUT_S = 600.0
_JSON_ERRORS = "eudai.json_errors"


@dataclass(frozen=True)
class Connect:
    """Creates the client of a command, with the options that precede the command."""

    context: click.Context
    address: str
    options: dict[str, Any]

    def __call__(self) -> eudai.Client:
        """A client that is closed at the end of the command. Raises ConfigError."""
        return self.context.with_resource(eudai.Client(self.address, **self.options))

    def connection(self) -> Connection:
        """The connection that the client would use. Raises ConfigError."""
        return Connection(self.address, **self.options)


def json_option(*names: str, text: str, **attributes: Any) -> Callable[[F], F]:
    """An option that prints JSON. If it is set, the error of a call is JSON too."""
    return click.option(*names, is_flag=True, callback=_note_json, help=text, **attributes)


def _note_json(context: click.Context, _option: click.Parameter, value: Any) -> Any:
    """Note in the context that an option asks for JSON."""
    context.meta[_JSON_ERRORS] = value or prints_errors_as_json(context)
    return value


def prints_errors_as_json(context: click.Context) -> bool:
    """Whether an option of the running command asks for the error of a call as JSON."""
    return bool(context.meta.get(_JSON_ERRORS))


AS_JSON = json_option("--json", "as_json", text="Print JSON lines.")
# For commands that print nothing else, or JSON anyway.
ERRORS_AS_JSON = json_option(
    "--json", text="Print the error of a call as JSON.", expose_value=False
)


def load_option(command: F) -> F:
    """`--context-length`, as the load options of a model."""
    return click.option(
        "--context-length",
        "load",
        type=int,
        metavar="N",
        callback=lambda _context, _option, value: (
            None if value is None else {"context_length": value}
        ),
        help="Context window to load the model with, in tokens.",
    )(command)


def model_option(command: F) -> F:
    """`--model`, for generations."""
    return click.option(
        "-m",
        "--model",
        default=lambda: os.environ.get("EUDAI_MODEL") or DEFAULT_MODEL,
        show_default=f"EUDAI_MODEL, or {DEFAULT_MODEL}",
        shell_complete=complete_model,
        help="Reference of the model.",
    )(command)


def generation_options(command: F) -> F:
    """The options of a generation."""
    options = (
        click.option("--system", help="System message, in place of the model's own."),
        click.option("--max-output-tokens", type=int, metavar="N", help="Limit of the answer."),
        click.option("--temperature", type=float, metavar="T", help="Randomness, 0 to 5."),
        click.option("--seed", type=int, metavar="N", help="Seed of the random sequence."),
        click.option(
            "--reasoning",
            type=click.Choice(["none", "default", "low", "medium", "high", "max"]),
            help="How much the model reasons.",
        ),
        click.option(
            "--timeout",
            "timeout_s",
            type=float,
            default=TIMEOUT_S,
            metavar="SECONDS",
            show_default=True,
            help="Deadline of an answer.",
        ),
    )
    command = load_option(command)
    for option in reversed(options):
        command = option(command)
    return command
