"""The command `eudai generate`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import eudai
from eudai.cli.json_file import JsonFile, messages_from, schema_from, tools_from
from eudai.cli.json_output import message_fields, result_fields
from eudai.cli.options import Connect, generation_options, json_option, model_option
from eudai.cli.terminal import console, note, read_standard_input, show, summary, write_json
from eudai.requests import Prompt
from eudai.v1.content_pb2 import Message

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("prompt", required=False)
@model_option
@generation_options
@click.option("--image", "images", type=FILE, multiple=True, help="Image or audio file.")
@click.option(
    "--messages", type=JsonFile(messages_from),
    help="File with the messages before PROMPT: a JSON array of the contract's Message.",
)  # fmt: skip
@click.option(
    "--tools", type=JsonFile(tools_from),
    help="File with tools: a JSON array of the contract's Tool. They are not run.",
)  # fmt: skip
@click.option(
    "--schema", "format", type=JsonFile(schema_from),
    help="File with the JSON Schema of the answer.",
)  # fmt: skip
@click.option("--expected-digest", metavar="DIGEST", help="Fail if the model has another digest.")
@click.option(
    "--heartbeat", "heartbeat_interval_s", type=float, metavar="SECONDS",
    help="With --events, print progress after this time without another event.",
)  # fmt: skip
@json_option("--json", "as_json", text="Print the whole result as JSON.")
@json_option("--events", "as_events", text="Print each event as a line of JSON as it arrives.")
@click.pass_obj
def generate(
    connect: Connect,
    /,
    prompt: str | None,
    model: str,
    images: tuple[Path, ...],
    messages: list[Message] | None,
    *,
    as_json: bool,
    as_events: bool,
    **options: Any,
) -> None:
    """Stream the answer to PROMPT.

    PROMPT is standard input if it is -, or if it and --messages are left out. The answer goes to
    standard output; reasoning, warnings and usage go to standard error.
    """
    if as_json and as_events:
        raise click.UsageError("--json and --events cannot be used together")
    given = _prompt_from(prompt, messages, images)
    client = connect()
    if as_json:
        write_json(result_fields(client.generate_once(model, given, **options)))
        return
    options["progress"] = sys.stderr.isatty() and not as_events
    with client.generate(model, given, **options) as stream:
        if as_events:
            for event in stream.events:
                write_json(message_fields(event))
            return
        result = show(stream, console(stderr=True))
    note(summary(result))


def _prompt_from(
    prompt: str | None, messages: list[Message] | None, images: Sequence[Path]
) -> Prompt:
    """The input of the generation: a text, or messages of which the prompt is the last."""
    if prompt == "-" or (prompt is None and messages is None):
        if sys.stdin.isatty():
            raise click.UsageError("PROMPT is missing, and standard input is a terminal")
        prompt = read_standard_input()
    if messages is None and not images:
        return prompt or ""
    last = [eudai.user_message(prompt or "", images)] if prompt or images else []
    return [*(messages or []), *last]
