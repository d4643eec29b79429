"""The commands that transfer models: `pull`, `pulls`, `push`, `create`."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import click

import eudai
from eudai.cli.completion import complete_model
from eudai.cli.json_output import message_fields
from eudai.cli.options import AS_JSON, Connect
from eudai.cli.terminal import Columns, console, note, print_list, size_text, write_json
from eudai.v1.model_service_pb2 import CreateModelRequest, TransferProgress


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.option("--detach", is_flag=True, help="Ctrl-C leaves the pull running on the server.")
@click.option("--cancel", is_flag=True, help="Cancel a running pull of MODEL for all callers.")
@AS_JSON
@click.pass_obj
def pull(connect: Connect, model: str, *, detach: bool, cancel: bool, as_json: bool) -> None:
    """Pull a model from its registry. Ctrl-C cancels the pull, or with --detach leaves it running.

    A later pull of the same model joins it, or resumes it. `eudai pulls` lists what is running.
    """
    client = connect()
    if cancel:
        client.cancel_pull(model)
        return
    try:
        _follow(client.pull(model, detach=detach), "pulled", as_json=as_json)
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
    print_list(connect().pulls(), columns, as_json=as_json)


@click.command()
@click.argument("model", shell_complete=complete_model)
@AS_JSON
@click.pass_obj
def push(connect: Connect, model: str, *, as_json: bool) -> None:
    """Push a model to its registry. Ctrl-C cancels the push."""
    _follow(connect().push(model), "pushed", as_json=as_json)


@click.command()
@click.argument("model")
@click.option(
    "--base-model", metavar="MODEL", shell_complete=complete_model,
    help="Model that the new one is based on.",
)  # fmt: skip
@click.option(
    "--file", "files", multiple=True, metavar="PATH",
    help="File of the model, which is uploaded; or NAME=sha256:DIGEST of an uploaded one.",
)  # fmt: skip
@click.option("--adapter", "adapters", multiple=True, metavar="PATH", help="File of an adapter.")
@click.option("--template", type=click.File(), help="File with the template of prompts.")
@click.option("--system", help="System message of the model.")
@click.option("--quantize", metavar="TYPE", help="Quantization, for example q4_K_M.")
@AS_JSON
@click.pass_obj
def create(
    connect: Connect,
    /,
    files: tuple[str, ...],
    adapters: tuple[str, ...],
    template: IO[str] | None,
    *,
    as_json: bool,
    **fields: Any,
) -> None:
    """Create MODEL from another model or from files. Ctrl-C cancels the creation."""
    client = connect()
    request = CreateModelRequest(
        files=_digests(client, files),
        adapters=_digests(client, adapters),
        template=template.read() if template else "",
        **fields,
    )
    _follow(client.create(request), "created", as_json=as_json)


def _digests(client: eudai.Client, files: Sequence[str]) -> dict[str, str]:
    """The digest of each file by its name, after an upload unless the digest is given."""
    digests: dict[str, str] = {}
    for file in files:
        name, _, digest = file.partition("=sha256:")
        name = name if digest else Path(file).name
        if name in digests:
            raise click.UsageError(f"two files have the name {name!r}")
        digests[name] = f"sha256:{digest}" if digest else client.upload(file)
    return digests


def _follow(transfer: eudai.Transfer[Any], done: str, *, as_json: bool) -> None:
    """Print the progress of a transfer, and then the model."""
    with transfer:
        if as_json:
            for progress in transfer:
                write_json({"progress": message_fields(progress)})
            write_json({"completed": message_fields(transfer.wait())})
            return
        _show_progress(transfer)
        note(f"{done} {transfer.wait().name}")


def _show_progress(transfer: eudai.Transfer[Any]) -> None:
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
            # A creation reports no bytes.
            counts = progress if isinstance(progress, TransferProgress) else TransferProgress()
            display.update(
                task,
                description=progress.status[:30],
                completed=counts.completed_bytes,
                total=counts.total_bytes or None,
            )
