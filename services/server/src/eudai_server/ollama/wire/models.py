"""Decodes the bodies of /api/tags, /api/ps and /api/show to models. No I/O."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.generation import Message, Role
from eudai_server.core.models import Capability, Description, Loaded, Model

# Clients accept messages of 4 MiB by default, and a model's vocabulary may be longer.
METADATA_BYTES_MAX = 3 << 20


class _Details(msgspec.Struct):
    family: str = ""
    parameter_size: str = ""
    quantization_level: str = ""
    context_length: int = 0


class _WireModel(msgspec.Struct):
    """A row of either list."""

    name: str = ""
    digest: str = ""
    remote_host: str = ""
    remote_model: str = ""
    size: int = 0
    modified_at: str = ""
    details: _Details = msgspec.field(default_factory=_Details)
    context_length: int = 0
    size_vram: int = 0
    expires_at: str = ""


class _WireList(msgspec.Struct):
    models: list[_WireModel] | None = None


class _WireMessage(msgspec.Struct):
    role: str = ""
    content: str = ""


class _WireShow(msgspec.Struct):
    license: str = ""
    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    system: str = ""
    renderer: str = ""
    parser: str = ""
    messages: list[_WireMessage] | None = None
    model_info: msgspec.Raw = msgspec.Raw(b"{}")
    capabilities: list[str] | None = None


def models_from(tags: bytes, ps: bytes) -> list[Model]:
    """All models, sorted by name, with their state in memory.

    Capabilities are left to /api/show, because the list only guesses them.
    """
    # By digest, because of two names of one model Ollama lists only the one that was loaded first.
    resident = {wire.digest: wire for wire in _decode(ps, _WireList).models or ()}
    present = _decode(tags, _WireList).models or ()
    return sorted(
        (_model(wire, resident.get(wire.digest)) for wire in present), key=lambda model: model.name
    )


def description_from(show: bytes, model: Model, verbose_show: bytes = b"") -> Description:
    """The description of one model; `model` is its row of the list.

    Metadata comes from `verbose_show`, if it is given and not too long; otherwise Ollama leaves the
    lists in it empty.
    """
    wire = _decode(show, _WireShow)
    info = msgspec.json.decode(wire.model_info)
    metadata = bytes(_decode(verbose_show, _WireShow).model_info) if verbose_show else b""
    if len(metadata) > METADATA_BYTES_MAX:
        metadata = bytes(wire.model_info)
    return Description(
        model=replace(
            model,
            capabilities=_capabilities(wire.capabilities or ()),
            max_context_length=_length(info, "context_length") or model.max_context_length,
        ),
        template=wire.template,
        system=wire.system,
        licenses=(wire.license,) if wire.license else (),
        modelfile=wire.modelfile,
        parameters=wire.parameters,
        metadata_json=metadata.decode(),
        messages=tuple(_message(message) for message in wire.messages or ()),
        embedding_length=_length(info, "embedding_length"),
        renderer=wire.renderer,
        parser=wire.parser,
    )


def _decode(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServiceError(
            Reason.BACKEND_FAILURE, "Ollama returned a malformed description of a model"
        ) from error


def _model(wire: _WireModel, resident: _WireModel | None) -> Model:
    return Model(
        name=wire.name,
        digest=f"sha256:{wire.digest}" if wire.digest else "",
        size_bytes=wire.size,
        update_time=_time(wire.modified_at),
        family=wire.details.family,
        parameter_size=wire.details.parameter_size,
        quantization=wire.details.quantization_level,
        max_context_length=wire.details.context_length,
        remote=bool(wire.remote_host or wire.remote_model),
        loaded=Loaded(
            resident.context_length, resident.size, resident.size_vram, _time(resident.expires_at)
        )
        if resident
        else None,
    )


def _time(text: str) -> datetime | None:
    """Parse a time of Go, which has nine decimal digits of a second; six are kept."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _length(info: Any, name: str) -> int:
    """A length from the file's metadata, whose key starts with the model's architecture."""
    if not isinstance(info, dict):
        return 0
    value = info.get(f"{info.get('general.architecture')}.{name}")
    return value if isinstance(value, int) else 0


def _message(wire: _WireMessage) -> Message:
    role = wire.role.upper()
    return Message(Role[role] if role in Role.__members__ else Role.USER, wire.content)


def _capabilities(names: Sequence[str]) -> frozenset[Capability]:
    return frozenset(
        Capability.__members__.get(name.upper(), Capability.UNSPECIFIED) for name in names
    )
