"""The command `eudai generate`."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click

from eudai.cli.options import Connect, generation_options, model_option
from eudai.cli.terminal import console, note, read_standard_input, show, summary
from eudai.results import Result

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("prompt", default="-")
@model_option
@generation_options
@click.option("--image", "images", type=FILE, multiple=True, help="Image or audio file.")
@click.option("--schema", type=FILE, help="File with the JSON Schema of the answer.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@click.pass_obj
def generate(
    connect: Connect,
    /,
    prompt: str,
    model: str,
    images: tuple[Path, ...],
    schema: Path | None,
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Stream the answer to PROMPT, or to standard input if PROMPT is - or left out.

    The answer goes to standard output; reasoning, warnings and usage go to standard error.
    """
    if prompt == "-":
        if sys.stdin.isatty():
            raise click.UsageError("PROMPT is missing, and standard input is a terminal")
        prompt = read_standard_input()
    options.update(media=images or None, format=_schema_from(schema) if schema else None)
    client = connect()
    if as_json:
        print(_json_from(client.generate_once(model, prompt, **options)))
        return
    with client.generate(model, prompt, progress=sys.stderr.isatty(), **options) as stream:
        result = show(stream, console(stderr=True))
    note(summary(result))


def _schema_from(path: Path) -> Any:
    try:
        schema = json.loads(path.read_text())
    except ValueError as error:
        raise click.BadParameter(f"{path}: not JSON: {error}", param_hint="--schema") from error
    if not isinstance(schema, dict):
        raise click.BadParameter(f"{path}: not a JSON object", param_hint="--schema")
    return schema


def _json_from(result: Result) -> str:
    fields = dataclasses.asdict(dataclasses.replace(result, logprobs=(), reasoning_logprobs=()))
    del fields["logprobs"], fields["reasoning_logprobs"]
    return json.dumps(fields, ensure_ascii=False)
