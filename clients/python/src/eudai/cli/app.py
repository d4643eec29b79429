"""The commands of the command line, their options, and what becomes of errors.

Exit codes: 0 success, 1 the call failed, 2 an argument or a file is wrong, 130 interrupted.
"""

import sys
from pathlib import Path
from typing import Any

import click

import eudai
from eudai.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from eudai.cli.address import default_address
from eudai.cli.administration import copy, delete, load, unload
from eudai.cli.chat import chat
from eudai.cli.completion import completion
from eudai.cli.conformance import conformance
from eudai.cli.explanation import explanation
from eudai.cli.generate import generate
from eudai.cli.json_output import error_fields
from eudai.cli.models import embed, info, models, ps
from eudai.cli.options import Connect, prints_errors_as_json
from eudai.cli.safe_text import json_text
from eudai.cli.terminal import note, silence_broken_pipe
from eudai.cli.transfers import create, pull, pulls, push
from eudai.errors import ConfigError, EudaiError

FILE = click.Path(dir_okay=False, path_type=Path)


class Commands(click.Group):
    """The commands. They print the error of a call as JSON if one of their options says so."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; returns the exit code."""
        try:
            return super().invoke(ctx)
        except EudaiError as error:
            if isinstance(error, ConfigError) or not prints_errors_as_json(ctx):
                raise
            print(json_text({"error": error_fields(error)}), file=sys.stderr, flush=True)
            return EXIT_FAILED


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 success, 1 the call failed, 2 an argument or a file is wrong, 130 "
    "interrupted.",
)
@click.option("--address", metavar="HOST:PORT", help="Server [EUDAI_ADDRESS, or 127.0.0.1:50051].")
@click.option("--tls", is_flag=True, default=None, help="Use TLS with the public CAs.")
@click.option("--ca-file", type=FILE, help="CAs of the server, PEM; implies TLS [EUDAI_CA_FILE].")
@click.option("--certificate-file", type=FILE, help="Certificate of the client, PEM.")
@click.option("--key-file", type=FILE, help="Key of the client, PEM.")
@click.option("--token-file", type=FILE, help="File with a bearer token [EUDAI_TOKEN_FILE].")
@click.version_option(eudai.__version__, message="eudai %(version)s")
@click.pass_context
def cli(context: click.Context, /, address: str | None, **options: Any) -> None:
    """Command line client of an eudai server."""
    chosen = {name: value for name, value in options.items() if value is not None}
    context.obj = Connect(context, address or default_address(), chosen)


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1)
def healthcheck(arguments: tuple[str, ...]) -> int:
    """Check whether the server is ready (for containers)."""
    from eudai.cli.healthcheck import run as run_healthcheck  # noqa: PLC0415

    return run_healthcheck(["healthcheck", *arguments])


for command in (
    generate, chat, embed, models, pull, pulls, push, create, copy, delete, load, unload, ps, info,
    healthcheck, conformance, completion,
):  # fmt: skip
    cli.add_command(command)


def run(arguments: list[str]) -> int:
    """Run a command; returns the exit code. Errors are one line on standard error."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] # it is a TextIOWrapper
    try:
        return cli.main(arguments, "eudai", standalone_mode=False) or 0
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        silence_broken_pipe()
        return EXIT_FAILED
    except (click.ClickException, EudaiError, OSError, ValueError) as error:
        note(explanation(error))
        has_failed = isinstance(error, EudaiError) and not isinstance(error, ConfigError)
        return EXIT_FAILED if has_failed else EXIT_USAGE
