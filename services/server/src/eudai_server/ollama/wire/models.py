"""Decodes the bodies of /api/tags, /api/ps and /api/show (Ollama 0.32.15). No I/O."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.generation import Message, Role
from eudai_server.core.models import Capability, Description, Loaded, Model

# Clients accept messages of 4 MiB by default, and a model's vocabulary may be longer.
METADATA_BYTES_MAX = 3 << 20

# A line of the parameters.
_SEED = re.compile(r"^seed\s", re.MULTILINE)
_WEIGHTS = re.compile(r"^FROM \S*(sha256-[0-9a-f]{64})$", re.MULTILINE)


class _Details(msgspec.Struct):
    family: str = ""
    parameter_size: str = ""
    quantization_level: str = ""
    context_length: int = 0


class ListedModel(msgspec.Struct):
    """A model in the list of /api/tags, or of /api/ps, which fills in other fields."""

    name: str = ""
    digest: str = ""
    size: int = 0
    details: _Details = msgspec.field(default_factory=_Details)
    # Only in /api/tags.
    modified_at: str = ""
    capabilities: list[str] | None = None
    remote_host: str = ""
    remote_model: str = ""
    # Only in /api/ps.
    context_length: int = 0
    size_vram: int = 0
    expires_at: str = ""

    @property
    def remote(self) -> bool:
        """Whether Ollama would run it in its cloud."""
        return bool(self.remote_host or self.remote_model)


class _WireList(msgspec.Struct):
    models: list[ListedModel] | None = None


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


_list_decoder = msgspec.json.Decoder(_WireList)
_show_decoder = msgspec.json.Decoder(_WireShow)


def listed_models(body: bytes) -> list[ListedModel]:
    """The models of /api/tags or /api/ps. Raises BACKEND_FAILURE if the body is malformed."""
    try:
        return _list_decoder.decode(body).models or []
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServiceError(
            Reason.BACKEND_FAILURE, "Ollama returned a malformed list of models"
        ) from error


def models_from(present: Sequence[ListedModel], resident: Sequence[ListedModel]) -> list[Model]:
    """The models of /api/tags, sorted by name, with their state in memory from /api/ps.

    Capabilities are left to /api/show, because the list only guesses them.
    """
    # By digest, because of two names of one model Ollama lists only the one that was loaded first.
    by_digest = {listed.digest: listed for listed in resident}
    return sorted(
        (_model(listed, by_digest.get(listed.digest)) for listed in present),
        key=lambda model: model.name,
    )


@dataclass(frozen=True, slots=True)
class ShownModel:
    """What the server needs of /api/show to run a model."""

    # The name of the file of weights; empty if Ollama does not report it.
    weights: str = ""
    # Whether the model's own parameters fix the seed; also True if that is unknown.
    has_seed: bool = True


def shown_model(show: bytes) -> ShownModel:
    """Read the body of /api/show. Raises BACKEND_FAILURE if it is malformed."""
    wire = _decode_show(show)
    match = _WEIGHTS.search(wire.modelfile)
    return ShownModel(match[1] if match else "", bool(_SEED.search(wire.parameters)))


def model_description(show: bytes, model: Model, verbose_show: bytes = b"") -> Description:
    """The description of one model; `model` is its row of the list.

    Metadata comes from `verbose_show`, if it is given and not too long; otherwise Ollama leaves the
    lists in it empty. Raises BACKEND_FAILURE if a body is malformed.
    """
    wire = _decode_show(show)
    info = msgspec.json.decode(wire.model_info)
    metadata = bytes(_decode_show(verbose_show).model_info) if verbose_show else b""
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
        messages=tuple(_model_message_from(message) for message in wire.messages or ()),
        embedding_length=_length(info, "embedding_length"),
        renderer=wire.renderer,
        parser=wire.parser,
    )


def _decode_show(body: bytes) -> _WireShow:
    try:
        return _show_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServiceError(
            Reason.BACKEND_FAILURE, "Ollama returned a malformed description of a model"
        ) from error


def _model(listed: ListedModel, resident: ListedModel | None) -> Model:
    return Model(
        name=listed.name,
        digest=f"sha256:{listed.digest}" if listed.digest else "",
        size_bytes=listed.size,
        update_time=_time(listed.modified_at),
        family=listed.details.family,
        parameter_size=listed.details.parameter_size,
        quantization=listed.details.quantization_level,
        max_context_length=listed.details.context_length,
        remote=listed.remote,
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


def _model_message_from(wire: _WireMessage) -> Message:
    role = wire.role.upper()
    return Message(Role[role] if role in Role.__members__ else Role.USER, wire.content)


def _capabilities(names: Sequence[str]) -> frozenset[Capability]:
    return frozenset(
        Capability.__members__.get(name.upper(), Capability.UNSPECIFIED) for name in names
    )
