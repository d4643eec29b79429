"""Model administration as the core sees it: models, operations on them, and the port (Store)."""

from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import auto
from typing import Protocol

from eudai_server.core.generation import LoadOptions, Message
from eudai_server.core.model_name import ModelName
from eudai_server.core.named_enum import NamedEnum


class Capability(NamedEnum):
    """What a model can do. UNSPECIFIED means that it may have other capabilities."""

    UNSPECIFIED = auto()
    COMPLETION = auto()
    TOOLS = auto()
    INSERT = auto()
    VISION = auto()
    EMBEDDING = auto()
    THINKING = auto()
    AUDIO = auto()
    IMAGE = auto()


@dataclass(frozen=True, slots=True)
class Identity:
    """The model that a reference names. References with equal keys compete for one process."""

    key: str
    # As in the backend's lists.
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory."""

    context_length: int
    size_bytes: int
    gpu_bytes: int
    expire_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model. A field is empty or zero if the backend does not report it."""

    name: str
    digest: str = ""
    size_bytes: int = 0
    update_time: datetime | None = None
    capabilities: frozenset[Capability] = frozenset()
    family: str = ""
    parameter_size: str = ""
    quantization: str = ""
    max_context_length: int = 0
    loaded: Loaded | None = None
    # Whether it runs on another machine; the server never sends requests to it.
    remote: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Everything that is known about one model."""

    model: Model
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    modelfile: str = ""
    parameters: str = ""
    metadata_json: str = ""
    messages: tuple[Message, ...] = ()
    embedding_length: int = 0
    renderer: str = ""
    parser: str = ""


class TransferPhase(NamedEnum):
    """A phase of a pull or a push."""

    UNSPECIFIED = auto()
    RESOLVING = auto()
    TRANSFERRING = auto()
    VERIFYING = auto()
    WRITING = auto()


@dataclass(frozen=True, slots=True)
class Transfer:
    """The progress of a pull or a push, over all layers. A creation has only a status."""

    status: str
    phase: TransferPhase = TransferPhase.UNSPECIFIED
    completed_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """A running pull."""

    model: str
    # None until the backend has reported progress.
    progress: Transfer | None
    # Whether it continues after all callers have left.
    detached: bool
    callers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A model to create, from another model or from uploaded files (digests by file name)."""

    model: ModelName
    base_model: ModelName | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    sampling: Mapping[str, float] = field(default_factory=dict)
    max_output_tokens: int | None = None
    stop_sequences: tuple[str, ...] = ()
    load: LoadOptions = field(default_factory=LoadOptions)
    messages: tuple[Message, ...] = ()
    quantize: str = ""
    renderer: str = ""
    parser: str = ""


class Store(Protocol):
    """Manages models. Every method raises ServiceError.

    MODEL_NOT_FOUND: a required model does not exist. CLOUD_DISABLED: a required model is remote.
    """

    async def list(self) -> Sequence[Model]:
        """All models that run locally and that a reference can name, sorted by name."""
        ...

    async def describe(self, model: ModelName, *, verbose: bool) -> Description:
        """Describe one model; `metadata_json` is set only if `verbose`."""
        ...

    async def copy(self, source: ModelName, destination: ModelName) -> None:
        """Copy a model to another name."""
        ...

    async def delete(self, model: ModelName) -> None:
        """Delete a model; remote models are allowed."""
        ...

    async def load(self, model: ModelName, load: LoadOptions) -> None:
        """Load a model; returns when it is in memory."""
        ...

    async def unload(self, model: ModelName) -> None:
        """Unload a model; returns when it is no longer in memory."""
        ...

    def pull(
        self, model: ModelName, *, insecure: bool, detach: bool
    ) -> AsyncGenerator[Transfer, None]:
        """Yield progress until the model is pulled.

        Concurrent calls for one model share a download, which is cancelled when the last of them
        leaves.
        """
        ...

    def list_pulls(self) -> Sequence[Pull]:
        """The running pulls, sorted by model."""
        ...

    async def cancel_pull(self, model: ModelName) -> None:
        """Cancel a running pull for all callers, whose calls fail with PULL_CANCELLED.

        Raises PULL_NOT_FOUND if no pull of the model is running.
        """
        ...

    def push(self, model: ModelName, *, insecure: bool) -> AsyncGenerator[Transfer, None]:
        """Yield progress until the model is pushed."""
        ...

    def create(self, creation: Creation) -> AsyncGenerator[Transfer, None]:
        """Yield statuses until the model is created."""
        ...

    async def has_blob(self, digest: str) -> bool:
        """Whether a file has been uploaded."""
        ...

    async def upload(self, digest: str, data: AsyncIterable[bytes]) -> int:
        """Store a file if its data has the digest; returns its size in bytes.

        A file with another digest, or an incomplete one, is discarded.
        """
        ...
