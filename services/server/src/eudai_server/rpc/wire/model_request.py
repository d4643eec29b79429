"""Validates and converts the requests of ModelService; reports all violations at once. No I/O."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence

from eudai.v1 import model_service_pb2 as pb

from eudai_server.core.errors import InvalidRequestError, Reason, ServiceError, Violation
from eudai_server.core.model_name import ModelName
from eudai_server.core.models import Creation, Model
from eudai_server.rpc.wire.content import messages_from
from eudai_server.rpc.wire.conversation_violations import conversation_violations
from eudai_server.rpc.wire.model_response import CAPABILITIES
from eudai_server.rpc.wire.options import (
    load_from,
    load_violations,
    max_output_tokens_from,
    sampling_from,
    sampling_violations,
    stop_violations,
)
from eudai_server.rpc.wire.references import References
from eudai_server.rpc.wire.values import seconds_of
from eudai_server.rpc.wire.violations import digest_violations, require

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000
CAPABILITIES_MAX = 64
# The limit for the files, and for the adapters, of a new model.
FILES_MAX = 1024
LICENSES_MAX = 64

_FILE_NAME = re.compile(r"[^\x00-\x1f\\/][^\x00-\x1f\\]{0,254}")


def names_from(**references: str) -> list[ModelName]:
    """Validate references, by field. Raises InvalidRequestError, or ServiceError CLOUD_DISABLED."""
    parsed = References()
    require(parsed.read(**references))
    return [parsed.get(field) for field in references]


def require_registry(model: ModelName, registries: Sequence[str]) -> str:
    """The registry of a model as the operator configured it: a host, possibly with a scheme.

    A scheme in the reference has no effect. Raises MODEL_FORBIDDEN if the operator does not allow
    the registry.
    """
    for registry in registries:
        if registry.rpartition("://")[2].lower() == model.registry:
            return registry
    raise ServiceError(
        Reason.MODEL_FORBIDDEN,
        f"model {model.listed!r} belongs to the registry {model.registry}, "
        "which the operator does not allow (EUDAI_REGISTRIES)",
        metadata={"model": model.listed},
    )


def page_from(
    models: Sequence[Model], request: pb.ListModelsRequest
) -> tuple[Sequence[Model], str]:
    """The models of one page, sorted by name, and the token of the next page.

    Raises InvalidRequestError.
    """
    if request.page_size < 0:
        raise InvalidRequestError([Violation("page_size", "must not be negative")])
    if len(request.capabilities) > CAPABILITIES_MAX:
        raise InvalidRequestError(
            [Violation("capabilities", f"must not be more than {CAPABILITIES_MAX}")]
        )
    if not all(value in pb.Capability.values() and value for value in request.capabilities):
        raise InvalidRequestError([Violation("capabilities", "must not contain unknown values")])
    wanted = {CAPABILITIES.decode(value) for value in request.capabilities}
    after = _name_from(request.page_token)
    matching = [
        model
        for model in models
        if model.name > after
        and wanted <= model.capabilities
        and (model.loaded is not None or not request.loaded_only)
    ]
    size = min(request.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    page = matching[:size]
    return page, base64.urlsafe_b64encode(page[-1].name.encode()).decode() if len(
        matching
    ) > size else ""


def creation_from(request: pb.CreateModelRequest) -> Creation:
    """Validate and convert a request.

    Raises InvalidRequestError, or ServiceError CLOUD_DISABLED.
    """
    references = References()
    require(_creation_violations(request, references))
    return Creation(
        model=references.get("model"),
        base_model=references.get("base_model") if request.base_model else None,
        files=dict(request.files),
        adapters=dict(request.adapters),
        template=request.template,
        system=request.system,
        licenses=tuple(request.licenses),
        sampling=sampling_from(request.sampling),
        max_output_tokens=max_output_tokens_from(request.stop),
        stop_sequences=tuple(request.stop.sequences),
        load=load_from(request.load, allowed=True),
        messages=messages_from(request.messages),
        quantize=request.quantize,
        renderer=request.renderer,
        parser=request.parser,
    )


def load_request_violations(
    request: pb.LoadModelRequest, references: References
) -> Iterator[Violation]:
    """The violations of a request to load a model. Parses its reference into `references`."""
    yield from references.read(model=request.model)
    yield from load_violations(request.load)
    if request.load.HasField("keep_alive") and seconds_of(request.load.keep_alive) == 0:
        yield Violation("load.keep_alive", "must not be 0; call UnloadModel to unload the model")


def _creation_violations(
    request: pb.CreateModelRequest, references: References
) -> Iterator[Violation]:
    yield from references.read(model=request.model)
    if bool(request.base_model) == bool(request.files):
        yield Violation("base_model", "exactly one of base_model and files is required")
    elif request.base_model:
        yield from references.read(base_model=request.base_model)
    yield from _file_violations("files", request.files)
    yield from _file_violations("adapters", request.adapters)
    if len(request.licenses) > LICENSES_MAX:
        yield Violation("licenses", f"must not be more than {LICENSES_MAX}")
    yield from sampling_violations(request.sampling)
    yield from stop_violations(request.stop)
    yield from load_violations(request.load)
    if request.load.HasField("keep_alive"):
        yield Violation(
            "load.keep_alive", "cannot be stored in a model; set it in LoadModel or in a request"
        )
    if request.messages:
        yield from conversation_violations(request.messages, has_system=False, field="messages")


def _file_violations(field: str, files: Mapping[str, str]) -> Iterator[Violation]:
    if len(files) > FILES_MAX:
        yield Violation(field, f"must not be more than {FILES_MAX}")
        return
    for name, digest in files.items():
        if not _FILE_NAME.fullmatch(name) or ".." in name.split("/"):
            yield Violation(
                field, f"{name[:60]!r} is not a name of 1 to 255 characters within a model's folder"
            )
        yield from digest_violations(f"{field}[{name[:40]!r}]", digest)


def _name_from(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidRequestError(
            [Violation("page_token", "is not a token from ListModels")]
        ) from None
