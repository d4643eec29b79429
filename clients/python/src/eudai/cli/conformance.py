"""The command `eudai conformance`."""

import click

from eudai.cli.address import default_address


@click.command()
@click.option("--address", metavar="HOST:PORT", help="Server, as before the command.")
@click.option("--model", default="", help="A model that generates text [the first one].")
@click.option("--embedding-model", default="", help="A model that embeds [the first one].")
@click.pass_context
def conformance(
    context: click.Context, address: str | None, model: str, embedding_model: str
) -> int:
    """Check whether a server keeps the contract, rule by rule."""
    from eudai.conformance import check  # noqa: PLC0415 - it imports all stubs
    from eudai.connection import Connection  # noqa: PLC0415

    chosen = context.find_root().params
    options = {name: value for name, value in chosen.items() if value is not None}
    options["address"] = address or options.get("address") or default_address()
    return check(Connection(**options), model, embedding_model)
