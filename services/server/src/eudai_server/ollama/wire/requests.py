"""Encodes requests to Ollama as HTTP requests (Ollama 0.32.15, `api/types.go`). No I/O."""

import base64
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from eudai_server.core.embedding import Batch
from eudai_server.core.events import ToolCall
from eudai_server.core.generation import (
    AnyJson,
    Conversation,
    Generation,
    Infill,
    JsonSchema,
    LoadOptions,
    Message,
    Prompt,
    RawPrompt,
    ReasoningEffort,
    Role,
    Tool,
)
from eudai_server.core.model_name import ModelName
from eudai_server.core.models import Creation

_EFFORTS: Mapping[ReasoningEffort, bool | str] = {
    ReasoningEffort.NONE: False,
    ReasoningEffort.DEFAULT: True,
    ReasoningEffort.LOW: "low",
    ReasoningEffort.MEDIUM: "medium",
    ReasoningEffort.HIGH: "high",
    ReasoningEffort.MAX: "max",
}

_ROLES = {Role.SYSTEM: "system", Role.USER: "user", Role.ASSISTANT: "assistant", Role.TOOL: "tool"}

# Ollama's names for the load options.
_LOAD_OPTIONS: Mapping[str, str] = {
    "context_length": "num_ctx",
    "batch_size": "num_batch",
    "gpu_layers": "num_gpu",
    "threads": "num_thread",
    "main_gpu": "main_gpu",
    "use_mmap": "use_mmap",
    "draft_tokens": "draft_num_predict",
}

_encoder = msgspec.json.Encoder()

# With this suffix Ollama itself refuses to send the request to its cloud, even if the model has
# changed since the server checked it.
_LOCAL = ":local"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request to Ollama."""

    method: str
    route: str
    body: bytes | AsyncIterable[bytes] | None = None
    # The model's name as Ollama lists it, for error messages.
    model: str = ""


def request_from(generation: Generation, *, can_think: bool, truncate: bool = False) -> Request:
    """The request of a generation."""
    body: dict[str, Any] = {
        "model": generation.model.listed + _LOCAL,
        "stream": True,
        "truncate": truncate,
        **_load_fields(generation.load),
        "think": _think(generation, can_think=can_think),
    }
    body["options"] = _load_options(generation.load) | _sampling_options(generation)
    match generation.format:
        case AnyJson():
            body["format"] = "json"
        case JsonSchema(schema):
            # Raw, to keep the order of properties, which influences constrained decoding.
            body["format"] = msgspec.Raw(schema.text.encode())
    if generation.tools:
        body["tools"] = [_tool(tool) for tool in generation.tools]
    if generation.logprob_alternatives is not None:
        body |= {"logprobs": True, "top_logprobs": generation.logprob_alternatives}
    route, fields = _input_fields(generation)
    return _post(route, body | fields, generation.model.listed)


def embed_request_from(batch: Batch, inputs: Sequence[str]) -> Request:
    """The request that embeds some of a batch's inputs."""
    body = {
        "model": batch.model.listed + _LOCAL,
        "input": inputs,
        "truncate": batch.truncate,
        "options": _load_options(batch.load),
    }
    if batch.dimensions is not None:
        body["dimensions"] = batch.dimensions
    if batch.load.keep_alive_s is not None:
        body["keep_alive"] = batch.load.keep_alive_s
    return _post("/api/embed", body, batch.model.listed)


def load_request_from(model: ModelName, load: LoadOptions, *, embeds: bool) -> Request:
    """The request that only loads a model.

    That is a generation without a prompt, or an embedding without inputs. Ollama reads the former
    with `keep_alive` 0 as an unload, and unloads after the latter, so `keep_alive` 0 is left to the
    request that follows.
    """
    if load.keep_alive_s == 0:
        load = replace(load, keep_alive_s=None)
    if embeds:
        return embed_request_from(Batch(model=model, inputs=(), load=load), ())
    body = {
        "model": model.listed + _LOCAL,
        "stream": True,
        "options": _load_options(load),
        **_load_fields(load),
    }
    return _post("/api/generate", body, model.listed)


def unload_request_from(model: ModelName) -> Request:
    """The request that unloads a model when nothing uses it any more."""
    return _post("/api/generate", {"model": model.listed + _LOCAL, "keep_alive": 0}, model.listed)


def show_request_from(model: str, *, verbose: bool = False) -> Request:
    """The request that describes a model; if `verbose`, with all metadata of its file."""
    return _post("/api/show", {"model": model, "verbose": verbose}, model)


def copy_request_from(source: ModelName, destination: ModelName) -> Request:
    """The request that copies a model to another name."""
    body = {"source": source.listed, "destination": destination.listed}
    return _post("/api/copy", body, source.listed)


def delete_request_from(model: ModelName) -> Request:
    """The request that deletes a model."""
    body = _encoder.encode({"model": model.listed})
    return Request("DELETE", "/api/delete", body, model.listed)


def pull_request_from(model: ModelName, *, insecure: bool) -> Request:
    """The request that pulls a model; if `insecure`, without TLS."""
    return _post("/api/pull", {"model": model.listed, "insecure": insecure}, model.listed)


def push_request_from(model: ModelName, *, insecure: bool) -> Request:
    """The request that pushes a model; if `insecure`, without TLS."""
    return _post("/api/push", {"model": model.listed, "insecure": insecure}, model.listed)


def create_request_from(creation: Creation) -> Request:
    """The request that creates a model.

    Unset fields are left out, because Ollama would store an empty text.
    """
    fields: dict[str, Any] = {
        "from": creation.base_model and creation.base_model.listed,
        "files": creation.files,
        "adapters": creation.adapters,
        "template": creation.template,
        "system": creation.system,
        "license": creation.licenses,
        "parameters": _sampling_options(creation) | _load_options(creation.load),
        "messages": [_wire_message_from(message) for message in creation.messages],
        "quantize": creation.quantize,
        "renderer": creation.renderer,
        "parser": creation.parser,
    }
    body = {name: value for name, value in fields.items() if value}
    model = creation.model.listed
    return _post("/api/create", {"model": model, **body}, model)


def _post(route: str, body: dict[str, Any], model: str) -> Request:
    return Request("POST", route, _encoder.encode(body), model)


def _load_options(load: LoadOptions) -> dict[str, Any]:
    return {_LOAD_OPTIONS[name]: value for name, value in load.options}


def _sampling_options(asked: Generation | Creation) -> dict[str, Any]:
    """The sampling and stop options; their names are Ollama's too."""
    options: dict[str, Any] = dict(asked.sampling)
    if asked.max_output_tokens is not None:
        options["num_predict"] = asked.max_output_tokens
    if asked.stop_sequences:
        options["stop"] = asked.stop_sequences
    return options


def _load_fields(load: LoadOptions) -> dict[str, Any]:
    # `shift` is a property of the loaded model: a request with another value reloads the model for
    # all callers.
    fields: dict[str, Any] = {"shift": False}
    if load.keep_alive_s is not None:
        fields["keep_alive"] = load.keep_alive_s
    return fields


def _think(generation: Generation, *, can_think: bool) -> bool | str:
    """The value of `think`, which is always sent.

    By default Ollama reasons whenever the model can, which under a format costs a second prefill.
    """
    if generation.effort is ReasoningEffort.UNSPECIFIED:
        return (
            can_think
            and generation.format is None
            and isinstance(generation.input, Prompt | Conversation)
        )
    return _EFFORTS[generation.effort]


def _input_fields(generation: Generation) -> tuple[str, dict[str, Any]]:
    match generation.input:
        case Prompt(text):
            fields = {"prompt": text}
        case RawPrompt(text):
            return "/api/generate", {"prompt": text, "raw": True}
        case Infill(prefix, suffix):
            return "/api/generate", {"prompt": prefix, "suffix": suffix}
        case Conversation(messages):
            turns = [_wire_message_from(message) for message in messages]
            if generation.system:
                turns.insert(0, {"role": "system", "content": generation.system})
            return "/api/chat", {"messages": turns}
    if generation.system:
        fields["system"] = generation.system
    return "/api/generate", fields


def _wire_message_from(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": _ROLES[message.role], "content": message.text}
    if message.reasoning:
        turn["thinking"] = message.reasoning
    if message.media:
        # Audio is sent here too: Ollama recognises it by its first bytes.
        turn["images"] = [base64.b64encode(data).decode() for data in message.media]
    if message.tool_calls:
        turn["tool_calls"] = [
            _tool_call(index, call) for index, call in enumerate(message.tool_calls)
        ]
    if message.role is Role.TOOL:
        turn |= {"tool_call_id": message.tool_call_id, "tool_name": message.tool_name}
    return turn


def _tool(tool: Tool) -> dict[str, Any]:
    parameters = (
        msgspec.Raw(tool.parameters_schema.text.encode())
        if tool.parameters_schema
        else {"type": "object", "properties": {}}
    )
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def _tool_call(index: int, call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "function": {
            "index": index,
            "name": call.name,
            "arguments": msgspec.Raw(call.arguments_json.encode()),
        },
    }
