"""The heart of model administration: what a model is, what is done with it, and the port (Store). Knows no wire."""

from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import auto
from typing import Protocol

from eudai_server.events import Name
from eudai_server.generation import LoadOptions, Message
from eudai_server.model_name import ModelName


class Capability(Name):
    """What a model can do. UNSPECIFIED stands for whatever else it may be able to do."""

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
    """The model that a reference names. References with equal keys compete for the same process."""

    key: str
    # As Ollama's lists show it.
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
    """A model. Empty or zero where Ollama does not say."""

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
    # Whether it runs in Ollama's cloud, so that nothing is ever sent to it.
    remote: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Everything that is known of one model."""

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


class TransferPhase(Name):
    """A phase of a pull or a push."""

    UNSPECIFIED = auto()
    RESOLVING = auto()
    TRANSFERRING = auto()
    VERIFYING = auto()
    WRITING = auto()


@dataclass(frozen=True, slots=True)
class Transfer:
    """How far a pull or a push is, over all its layers. A creation has a status alone."""

    status: str
    phase: TransferPhase = TransferPhase.UNSPECIFIED
    completed_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A model to make, from another one or from uploaded files (their digests by name)."""

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
    """Keeps models. Every method raises ServiceError.

    MODEL_NOT_FOUND where a model that it needs is not there, CLOUD_DISABLED where that one is remote.
    """

    async def list(self) -> Sequence[Model]:
        """Every model that runs here and that a reference can name, in order of name."""
        ...

    async def describe(self, model: ModelName, *, verbose: bool) -> Description:
        """One model; `metadata_json` only where verbose."""
        ...

    async def copy(self, source: ModelName, destination: ModelName) -> None:
        """Give a model another name."""
        ...

    async def delete(self, model: ModelName) -> None:
        """Remove a model, also a remote one."""
        ...

    async def load(self, model: ModelName, load: LoadOptions) -> None:
        """Return once it is in memory."""
        ...

    async def unload(self, model: ModelName) -> None:
        """Return once it is not in memory any more."""
        ...

    def pull(
        self, model: ModelName, *, insecure: bool, detach: bool
    ) -> AsyncGenerator[Transfer, None]:
        """Yield progress until the model is here.

        Calls for one model share a download, which ends with the last of them.
        """
        ...

    def push(self, model: ModelName, *, insecure: bool) -> AsyncGenerator[Transfer, None]:
        """Yield progress until the model is published."""
        ...

    def create(self, creation: Creation) -> AsyncGenerator[Transfer, None]:
        """Yield statuses until the model is made."""
        ...

    async def has_blob(self, digest: str) -> bool:
        """Whether an uploaded file is there."""
        ...

    async def upload(self, digest: str, data: AsyncIterable[bytes]) -> int:
        """Keep a file, if its bytes have that digest, and return its size; nothing is left of one that has another, or breaks off."""
        ...
