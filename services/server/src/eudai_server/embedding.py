"""The heart of embedding: what a caller asks for (Batch), what comes back (Vectors), and the port between (Embedder)."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from eudai_server.generation import LoadOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Texts to embed. `dimensions` None keeps all; `truncate` cuts texts that are too long instead of failing."""

    model: str
    inputs: tuple[str, ...]
    # As in `Generation`.
    caller: str = ""
    deadline_s: float | None = None
    dimensions: int | None = None
    truncate: bool = False
    load: LoadOptions = field(default_factory=LoadOptions)
    expected_digest: str = ""


@dataclass(frozen=True, slots=True)
class Vectors:
    """Some of the vectors, in order of input, and the model that made them."""

    vectors: Sequence[Sequence[float]]
    input_tokens: int
    model: str
    digest: str


class Embedder(Protocol):
    """Embeds."""

    def embed(self, batch: Batch) -> AsyncGenerator[Vectors, None]:
        """Yield vectors, as soon as some are ready, until there is one for each input.

        Raises ServiceError on any failure; one that an input is to blame for names it. Closing the generator stops between parts.
        """
        ...
