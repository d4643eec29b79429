"""The command `eudai conformance`."""

import dataclasses

import click

from eudai.cli import EXIT_FAILED
from eudai.cli.completion import complete_model
from eudai.cli.explanation import explanation
from eudai.cli.options import Connect
from eudai.cli.terminal import note, write
from eudai.conformance import Outcome, check
from eudai.errors import EudaiError

EXIT_UNCHECKED = 2


@click.command(
    epilog="Exit codes: 0 all rules hold, 1 one is broken, 2 the server cannot be checked."
)
@click.option("--address", metavar="HOST:PORT", help="Server; may also precede the command.")
@click.option(
    "-m", "--model", default="", shell_complete=complete_model, help="A model that generates text."
)
@click.option(
    "--embedding-model",
    default="",
    shell_complete=complete_model,
    help="A model that embeds texts.",
)
@click.pass_obj
def conformance(connect: Connect, address: str | None, model: str, embedding_model: str) -> int:
    """Check whether the server keeps the contract, rule by rule.

    Generates a few answers, and changes nothing on the server. Models that are not given are
    selected from those of the server. The check of a rule that needs a missing model is skipped.
    """
    connect = dataclasses.replace(connect, address=address or connect.address)
    results = []
    try:
        for outcome in check(connect.connection(), model, embedding_model):
            write(_text_of(outcome))
            results.append(outcome.result)
    except EudaiError as error:
        note(explanation(error))
        return EXIT_UNCHECKED
    broken = results.count("FAIL")
    write(f"{len(results)} rules, {broken} broken\n")
    return EXIT_FAILED if broken else 0


def _text_of(outcome: Outcome) -> str:
    reason = f"      {outcome.reason}\n" if outcome.reason else ""
    return f"{outcome.result:4}  {outcome.rule}: {outcome.promise}\n{reason}"
