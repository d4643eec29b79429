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
    for option in reversed(options):
        command = option(command)
    return command
