"""The commands about models and the server: `embed`, `models`, `ps`, `info`."""

import datetime as dt
import json
import sys

import click

import eudai
from eudai.cli.completion import complete_model
from eudai.cli.json_output import message_fields
from eudai.cli.options import AS_JSON, ERRORS_AS_JSON, Connect
from eudai.cli.terminal import (
    Columns,
    print_list,
    print_table,
    read_standard_input,
    size_text,
    write_json,
)
from eudai.v1.model_service_pb2 import Capability, LoadedState, Model

FOREVER_YEARS = 10


@click.command()
@click.argument("texts", nargs=-1, metavar="TEXT...")
@click.option(
    "-m", "--model", default="all-minilm", show_default=True, shell_complete=complete_model,
    help="Reference of the embedding model.",
)  # fmt: skip
@click.option("--dimensions", type=int, metavar="N", help="Number of dimensions of the vectors.")
@ERRORS_AS_JSON
@click.pass_obj
def embed(connect: Connect, texts: tuple[str, ...], model: str, dimensions: int | None) -> None:
    """Print the vector of each TEXT, or of each line of standard input, as a JSON array."""
    if not texts and sys.stdin.isatty():
        raise click.UsageError("TEXT is missing, and standard input is a terminal")
    inputs = list(texts) or read_standard_input().splitlines()
    options: eudai.EmbedOptions = {} if dimensions is None else {"dimensions": dimensions}
    for vector in connect().embed(model, inputs, **options):
        print(json.dumps([float(f"{value:.7g}") for value in vector]))


@click.command()
@AS_JSON
@click.pass_obj
def models(connect: Connect, *, as_json: bool) -> None:
    """List the models that Ollama has."""
    columns: Columns = {
        "NAME": lambda each: each.name,
        "SIZE": lambda each: size_text(each.size_bytes),
        "PARAMETERS": lambda each: each.parameter_size,
        "QUANTIZATION": lambda each: each.quantization,
        "CONTEXT": lambda each: each.max_context_length,
        "CAPABILITIES": _capabilities_of,
    }
    print_list(connect().models(), columns, as_json=as_json)


@click.command()
@AS_JSON
@click.pass_obj
def ps(connect: Connect, *, as_json: bool) -> None:
    """List the models that are in memory."""
    columns: Columns = {
        "NAME": lambda each: each.name,
        "MEMORY": lambda each: size_text(each.loaded.size_bytes),
        "GPU": lambda each: f"{each.loaded.gpu_bytes / max(each.loaded.size_bytes, 1):.0%}",
        "CONTEXT": lambda each: each.loaded.context_length,
        "UNTIL": lambda each: _until(each.loaded),
    }
    print_list(connect().models(loaded_only=True), columns, as_json=as_json)


@click.command()
@AS_JSON
@click.pass_obj
def info(connect: Connect, *, as_json: bool) -> None:
    """Describe the server: versions, limits and load."""
    found = connect().server_info()
    if as_json:
        write_json(message_fields(found))
        return
    rows = [
        [field.name.replace("_", " "), getattr(found, field.name)]
        for field in found.DESCRIPTOR.fields
    ]
    print_table(["SERVER", ""], rows)


def _until(loaded: LoadedState) -> str:
    """When a model will be unloaded. Ollama has a time far away for a model that stays."""
    time = loaded.expire_time.ToDatetime(dt.UTC)
    if time.year > dt.datetime.now(dt.UTC).year + FOREVER_YEARS:
        return "forever"
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _capabilities_of(model: Model) -> str:
    names = (
        Capability.Name(each).removeprefix("CAPABILITY_").lower() for each in model.capabilities
    )
    return " ".join(names)
