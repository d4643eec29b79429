"""Embedding as the core sees it: a request (Batch), a result (Vectors) and the port (Embedder)."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from eudai_server.core.generation import LoadOptions
from eudai_server.core.model_name import ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Texts to embed.

    `dimensions` None keeps all; `truncate` cuts long texts instead of failing.
    """

    model: ModelName
    inputs: tuple[str, ...]
    # See `Generation`.
    caller: str = ""
    deadline_s: float | None = None
    dimensions: int | None = None
    truncate: bool = False
    load: LoadOptions = field(default_factory=LoadOptions)
    expected_digest: str = ""


@dataclass(frozen=True, slots=True)
class Vectors:
    """Some of the vectors, in the order of the inputs, and the model that made them."""

    vectors: Sequence[Sequence[float]]
    input_tokens: int
    model: str
    digest: str


class Embedder(Protocol):
    """Embeds texts."""

    def embed(self, batch: Batch) -> AsyncGenerator[Vectors, None]:
        """Yield vectors as soon as some are ready, until every input has one.

        Raises ServiceError on any failure; if one input caused it, the error names that input.
        Closing the generator stops the work after the current part.
        """
        ...
