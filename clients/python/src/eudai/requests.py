"""Builds requests from the arguments of the clients' methods.

Both clients have the same options, which are defined once here.
"""

import contextlib
import difflib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from eudai.connection import Metadata
from eudai.content import MediaSource, user_message
from eudai.formats import Format, format_from
from eudai.tool_schema import tool_from
from eudai.v1 import (
    content_pb2,
    embedding_service_pb2,
    generation_service_pb2 as pb,
    model_service_pb2,
    options_pb2,
)

Prompt = str | Sequence[content_pb2.Message]


class CallOptions(TypedDict, total=False):
    """Options of every call.

    - timeout_s: the call fails with DeadlineExceededError after this time.
    - metadata: metadata of the call, besides that of the client.
    - request_id: the caller's own id of the call, which the server copies to its log, to the result
      and to errors.

    >>> client.server_info(timeout_s=5, metadata={"team": "search"}).version
    '0.1.0'
    """

    timeout_s: float
    metadata: Metadata
    request_id: str


class LoadFields(TypedDict, total=False):
    """Options of the loaded model, as in the contract's LoadOptions.

    `keep_alive_s` is the time for which the model stays loaded after its last use.

    >>> load: eudai.LoadFields = {"context_length": 4096, "keep_alive_s": 600}
    >>> client.generate_once("gemma3:270m", "hi", load=load).text
    'Hello there!'
    """

    context_length: int
    batch_size: int
    gpu_layers: int
    threads: int
    main_gpu: int
    use_mmap: bool
    draft_tokens: int
    keep_alive_s: float


class GenerateOptions(CallOptions, total=False):
    """Options of a generation. An option that is left out has the model's own value.

    Input: `system` is a system message, `media` are images or audio files for the prompt, `tools`
    are functions or Tool messages. With `raw`, the model gets the prompt without a template; with
    `suffix`, it fills the gap between the prompt and the suffix.

    Answer: `format` is "json", a JSON Schema, a pydantic model or a protobuf message class;
    `reasoning` is the effort; `logprobs` is the number of alternatives for each token, 0 to 20.

    Events: with `progress`, `stream.events` tells the place in the queue and the phase.

    Limits: `time_budget_s` ends the generation early and keeps its output, unlike `timeout_s`.

    All others are those of the contract, with the same names.

    >>> options: eudai.GenerateOptions = {"temperature": 0, "seed": 1, "max_output_tokens": 10}
    >>> client.generate_once("gemma3:270m", "hi", **options).text
    'Hello there!'
    """

    system: str
    media: Sequence[MediaSource]
    tools: Sequence[Callable[..., Any] | content_pb2.Tool]
    tool_choice: Literal["auto", "none"]
    raw: bool
    suffix: str
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repeat_penalty: float
    repeat_last_n: int
    presence_penalty: float
    frequency_penalty: float
    seed: int
    max_output_tokens: int
    stop_sequences: Sequence[str]
    format: Format
    reasoning: Literal["none", "default", "low", "medium", "high", "max"]
    hide_reasoning: bool
    logprobs: int
    context_overflow: Literal["reject", "drop_oldest"]
    load: LoadFields
    expected_digest: str
    progress: bool
    heartbeat_interval_s: float
    flush_interval_s: float
    labels: Mapping[str, str]
    time_budget_s: float


class EmbedOptions(CallOptions, total=False):
    """Options of an embedding, as in the contract's EmbedRequest.

    >>> options: eudai.EmbedOptions = {"dimensions": 2, "truncate": True}
    >>> client.embed("all-minilm", ["a"], **options)
    [[1.0, 0.0]]
    """

    dimensions: int
    truncate: bool
    load: LoadFields
    expected_digest: str


def generate_request(model: str, prompt: Prompt, options: Mapping[str, Any]) -> pb.GenerateRequest:
    """The request of a generation. Raises TypeError or ValueError, which name the option."""
    options = _known(options, GenerateOptions)
    request = pb.GenerateRequest()
    with _naming("model"):
        request.model = model
    with _naming("prompt"):
        _set_input(request, prompt, options)
    for name, value in options.items():
        with _naming(name):
            _set_option(request, name, value)
    return request


def embed_request(
    model: str, texts: Sequence[str], options: Mapping[str, Any]
) -> embedding_service_pb2.EmbedRequest:
    """The request of an embedding."""
    if isinstance(texts, str):
        raise TypeError("texts must be a list of str, not str")
    options = _known(options, EmbedOptions)
    request = embedding_service_pb2.EmbedRequest()
    with _naming("model"):
        request.model = model
    with _naming("texts"):
        request.inputs.extend(texts)
    if "load" in options:
        options["load"] = load_options(options["load"])
    for name in options.keys() & request.DESCRIPTOR.fields_by_name.keys():
        with _naming(name):
            _assign(request, name, options[name])
    return request


def capabilities_from(names: Sequence[str]) -> list[Any]:
    """The capabilities of a ListModels request."""
    return [_value(model_service_pb2.Capability, "CAPABILITY_", name) for name in names]


def load_options(fields: LoadFields) -> options_pb2.LoadOptions:
    """The load options of a request."""
    values = dict(_known(fields, LoadFields))
    keep_alive_s = values.pop("keep_alive_s", None)
    load = options_pb2.LoadOptions(**values)
    if keep_alive_s is not None:
        load.keep_alive.CopyFrom(_duration(keep_alive_s))
    return load


def _set_input(request: pb.GenerateRequest, prompt: Prompt, options: Mapping[str, Any]) -> None:
    if not isinstance(prompt, str):
        if options.keys() & {"media", "raw", "suffix"}:
            raise ValueError("media, raw and suffix need a prompt that is a str")
        request.conversation.messages.extend(prompt)
    elif options.get("raw"):
        request.raw_prompt = prompt
    elif "suffix" in options:
        request.infill.CopyFrom(pb.Infill(prefix=prompt, suffix=options["suffix"]))
    elif options.get("media") or options.get("tools"):
        request.conversation.messages.append(user_message(prompt, options.get("media", ())))
    else:
        request.prompt = prompt


def _set_option(request: pb.GenerateRequest, name: str, value: Any) -> None:
    """Set the fields of an option. Options of the call and of the input have been used already."""
    if name in _SAMPLING:
        setattr(request.sampling, name, value)
    elif name in _OPTIONS:
        path, convert = _OPTIONS[name]
        *parents, field = path.split(".")
        message = functools.reduce(getattr, parents, request)
        _assign(message, field, convert(value) if convert else value)


def _assign(message: Any, field: str, value: Any) -> None:
    if isinstance(value, Message):
        getattr(message, field).CopyFrom(value)
    elif isinstance(value, list):
        getattr(message, field).extend(value)
    elif isinstance(value, dict):
        getattr(message, field).update(value)
    else:
        setattr(message, field, value)


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Add the name of an argument to an error."""
    try:
        yield
    except (TypeError, ValueError, OSError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error


def _known(options: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """The options that are set, without None. Raises TypeError if one is unknown."""
    for name in options:
        if name not in kind.__annotations__:
            close = difflib.get_close_matches(name, kind.__annotations__, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"unknown option {name!r}{hint}")
    return {name: value for name, value in options.items() if value is not None}


def _value(enum: Any, prefix: str, text: str) -> Any:
    names = [name.removeprefix(prefix).lower() for name in enum.keys()[1:]]
    if text not in names:
        raise ValueError(f"{text!r} is not one of {', '.join(names)}")
    return enum.Value(prefix + text.upper())


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def _reasoning_effort(text: str) -> Any:
    return _value(pb.ReasoningEffort, "REASONING_EFFORT_", text)


def _context_overflow(text: str) -> Any:
    return _value(pb.ContextOverflow, "CONTEXT_OVERFLOW_", text)


def _tool_choice(text: str) -> Any:
    return _value(pb.ToolChoice, "TOOL_CHOICE_", text)


def _tools(tools: Iterable[Callable[..., Any] | content_pb2.Tool]) -> list[content_pb2.Tool]:
    return [tool if isinstance(tool, content_pb2.Tool) else tool_from(tool) for tool in tools]


def _texts(texts: Iterable[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


_SAMPLING = options_pb2.SamplingOptions.DESCRIPTOR.fields_by_name
# The field of each other option, and what converts its value.
_OPTIONS: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    "system": ("system", None),
    "tools": ("tools", _tools),
    "tool_choice": ("tool_choice", _tool_choice),
    "max_output_tokens": ("stop.max_output_tokens", None),
    "stop_sequences": ("stop.sequences", _texts),
    "format": ("format", format_from),
    "reasoning": ("reasoning.effort", _reasoning_effort),
    "hide_reasoning": ("reasoning.hide", None),
    "logprobs": ("logprobs.alternatives", None),
    "context_overflow": ("context_overflow", _context_overflow),
    "load": ("load", load_options),
    "expected_digest": ("expected_digest", None),
    "progress": ("events.progress", None),
    "heartbeat_interval_s": ("events.heartbeat_interval", _duration),
    "flush_interval_s": ("events.flush_interval", _duration),
    "labels": ("labels", dict),
    "time_budget_s": ("time_budget", _duration),
}
