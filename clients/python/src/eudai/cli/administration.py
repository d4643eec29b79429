"""The commands that change models without a transfer: `copy`, `delete`, `load`, `unload`."""

import click

import eudai
from eudai.cli.completion import complete_model
from eudai.cli.json_output import message_fields
from eudai.cli.options import AS_JSON, ERRORS_AS_JSON, Connect, load_option
from eudai.cli.terminal import note, write_json
from eudai.v1.model_service_pb2 import Model


@click.command()
@click.argument("source", shell_complete=complete_model)
@click.argument("destination")
@AS_JSON
@click.pass_obj
def copy(connect: Connect, source: str, destination: str, *, as_json: bool) -> None:
    """Copy the model SOURCE to the name DESTINATION."""
    _report(f"copied {source} to", connect().copy(source, destination), as_json=as_json)


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.option("--allow-missing", is_flag=True, help="Succeed if MODEL does not exist.")
@ERRORS_AS_JSON
@click.pass_obj
def delete(connect: Connect, model: str, *, allow_missing: bool) -> None:
    """Delete a model."""
    connect().delete(model, allow_missing=allow_missing)


@click.command()
@click.argument("model", shell_complete=complete_model)
@load_option
@click.option(
    "--keep-alive", "keep_alive_s", type=float, metavar="SECONDS",
    help="How long the model stays loaded after its last use.",
)  # fmt: skip
@AS_JSON
@click.pass_obj
def load(
    connect: Connect,
    model: str,
    load: eudai.LoadFields | None,
    keep_alive_s: float | None,
    *,
    as_json: bool,
) -> None:
    """Load a model into memory, so that the next generation does not wait for it."""
    fields: eudai.LoadFields = load or {}
    if keep_alive_s is not None:
        fields["keep_alive_s"] = keep_alive_s
    _report("loaded", connect().load(model, fields), as_json=as_json)


@click.command()
@click.argument("model", shell_complete=complete_model)
@ERRORS_AS_JSON
@click.pass_obj
def unload(connect: Connect, model: str) -> None:
    """Unload a model from memory. It is loaded again when it is used."""
    connect().unload(model)


def _report(what: str, model: Model, *, as_json: bool) -> None:
    """Print the model that a command has changed."""
    if as_json:
        write_json(message_fields(model))
    else:
        note(f"{what} {model.name}")
