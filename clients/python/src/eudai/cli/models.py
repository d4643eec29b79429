"""The commands about models and the server: `embed`, `models`, `pull`, `pulls`, `ps`, `info`."""

import datetime as dt
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

import eudai
from eudai.cli.completion import complete_model
from eudai.cli.options import Connect
from eudai.cli.terminal import (
    console,
    note,
    print_table,
    read_standard_input,
    size_text,
    write,
)
from eudai.v1.model_service_pb2 import Capability, LoadedState, Model, TransferProgress

FOREVER_YEARS = 10
# The header of each column, and its text for a message.
Columns = Mapping[str, Callable[[Any], object]]
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")


@click.command()
@click.argument("texts", nargs=-1, metavar="TEXT...")
@click.option(
    "-m", "--model", default="all-minilm", show_default=True, shell_complete=complete_model,
    help="Reference of the embedding model.",
)  # fmt: skip
@click.option("--dimensions", type=int, metavar="N", help="Number of dimensions of the vectors.")
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
    _print_list(connect().models(), columns, as_json=as_json)


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
    _print_list(connect().models(loaded_only=True), columns, as_json=as_json)


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.option("--detach", is_flag=True, help="Ctrl-C leaves the pull running on the server.")
@click.option("--cancel", is_flag=True, help="Cancel a running pull of MODEL for all callers.")
@click.pass_obj
def pull(connect: Connect, model: str, *, detach: bool, cancel: bool) -> None:
    """Pull a model from its registry. Ctrl-C cancels the pull, or with --detach leaves it running.

    A later pull of the same model joins it, or resumes it. `eudai pulls` lists what is running.
    """
    client = connect()
    if cancel:
        client.cancel_pull(model)
        return
    try:
        with client.pull(model, detach=detach) as transfer:
            _show_progress(transfer)
            note(f"pulled {transfer.wait().name}")
    except KeyboardInterrupt:
        state = "continues on the server" if detach else "is cancelled"
        note(f"the pull {state}; `eudai pull {model}` resumes it")
        raise


@click.command()
@AS_JSON
@click.pass_obj
def pulls(connect: Connect, *, as_json: bool) -> None:
    """List the pulls that are running on the server."""
    columns: Columns = {
        "NAME": lambda each: each.model,
        "DONE": lambda each: size_text(each.progress.completed_bytes),
        "TOTAL": lambda each: size_text(each.progress.total_bytes),
        "CALLERS": lambda each: each.callers,
        "DETACHED": lambda each: "yes" if each.detached else "no",
    }
    _print_list(connect().pulls(), columns, as_json=as_json)


@click.command()
@AS_JSON
@click.pass_obj
def info(connect: Connect, *, as_json: bool) -> None:
    """Describe the server: versions, limits and load."""
    found = connect().server_info()
    if as_json:
        _print_json([found])
        return
    rows = [
        [field.name.replace("_", " "), getattr(found, field.name)]
        for field in found.DESCRIPTOR.fields
    ]
    print_table(["SERVER", ""], rows)


def _print_list(found: Iterable[Message], columns: Columns, *, as_json: bool) -> None:
    """Print a table with a row, or JSON with a line, for each message."""
    if as_json:
        _print_json(list(found))
        return
    rows = [[text(each) for text in columns.values()] for each in found]
    print_table(list(columns), rows)


def _show_progress(transfer: eudai.Transfer[TransferProgress]) -> None:
    output = console(stderr=True)
    if not output.is_terminal:
        last = ""
        for progress in transfer:
            if progress.status != last:
                last = progress.status
                note(last)
        return
    from rich import progress as bars  # noqa: PLC0415 - slow to import

    columns = (
        bars.TextColumn("{task.description}", markup=False), bars.BarColumn(),
        bars.DownloadColumn(), bars.TransferSpeedColumn(), bars.TimeRemainingColumn(),
    )  # fmt: skip
    with bars.Progress(*columns, console=output) as display:
        task = display.add_task("", total=None)
        for progress in transfer:
            display.update(
                task,
                description=progress.status[:30],
                completed=progress.completed_bytes,
                total=progress.total_bytes or None,
            )


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


def _print_json(messages: list[Any]) -> None:
    for message in messages:
        write(json.dumps(MessageToDict(message, preserving_proto_field_name=True)) + "\n")
