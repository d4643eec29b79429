"""The completion of the shell: its script, and names of models."""

from typing import Any

import click
from click.shell_completion import get_completion_class

import eudai
from eudai.cli.address import default_address

COMPLETION_TIMEOUT_S = 1.0


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell, for example: source <(eudai completion bash)."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - the argument allows no other shell
    click.echo(kind(context.find_root().command, {}, "eudai", "_EUDAI_COMPLETE").source())


def complete_model(_context: click.Context, _parameter: Any, incomplete: str) -> list[str]:
    """The names of models that start with what has been typed; none if the server is away."""
    try:
        with eudai.Client(default_address(), timeout_s=COMPLETION_TIMEOUT_S) as client:
            return [each.name for each in client.models() if each.name.startswith(incomplete)]
    except eudai.EudaiError:
        return []
