"""Embeds any number of texts, in as many requests as the limits of the server require."""

import contextlib
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from eudai.errors import EudaiError, IncompleteResponseError
from eudai.v1.embedding_service_pb2 import EmbedRequest, EmbedResponse

# The server allows 4,096 texts and 8 MiB in a request.
TEXTS_MAX = 4096
TEXT_BYTES_MAX = 7 << 20
_TIMEOUT_MIN_S = 0.001
_INDEX = re.compile(r"\binputs\[(\d+)\]")


class EmbedBatches:
    """Splits a request into batches, and collects their responses.

    Iterate over the requests, and `add` the responses of each within `numbering`. All requests but
    the first expect the digest of the first response, because vectors of two models cannot be
    compared.
    """

    def __init__(self, request: EmbedRequest, timeout_s: float) -> None:
        """`timeout_s` is the timeout of all calls together."""
        self._texts = list(request.inputs)
        self._common = EmbedRequest()
        self._common.CopyFrom(request)
        del self._common.inputs[:]
        self._end_s = time.monotonic() + timeout_s
        self._begin = 0
        self._responses: list[EmbedResponse] = []

    def __iter__(self) -> Iterator[EmbedRequest]:
        """The request of each batch."""
        for end in _batch_ends(self._texts):
            request = EmbedRequest(inputs=self._texts[self._begin : end])
            request.MergeFrom(self._common)
            yield request
            self._begin = end

    @property
    def remaining_s(self) -> float:
        """The timeout of the next call."""
        return max(self._end_s - time.monotonic(), _TIMEOUT_MIN_S)

    def add(self, responses: Iterable[EmbedResponse]) -> None:
        """Add the responses of a call."""
        self._responses += responses
        if self._responses and self._responses[0].digest:
            self._common.expected_digest = self._responses[0].digest

    @contextlib.contextmanager
    def numbering(self) -> Iterator[None]:
        """Let an error name a text by its place among all texts, and not in its batch."""
        try:
            yield
        except EudaiError as error:
            error.message = self._numbered(error.message)
            error.violations = tuple(
                replace(each, field=self._numbered(each.field)) for each in error.violations
            )
            raise

    def _numbered(self, text: str) -> str:
        return _INDEX.sub(lambda found: f"inputs[{int(found[1]) + self._begin}]", text)

    def vectors(self, *, as_numpy: bool) -> Any:
        """The vectors as lists, or as a numpy array.

        Raises IncompleteResponseError if some are missing.
        """
        embeddings = (each for response in self._responses for each in response.embeddings)
        vectors = [list(each.values) for each in embeddings]
        if len(vectors) != len(self._texts):
            raise IncompleteResponseError(
                f"the server sent {len(vectors)} of {len(self._texts)} vectors"
            )
        if not as_numpy:
            return vectors
        try:
            import numpy as np  # noqa: PLC0415 - optional
        except ImportError as error:
            raise ImportError("as_numpy=True needs numpy: pip install eudai[numpy]") from error
        return np.array(vectors, dtype=np.float32)


def _batch_ends(texts: Sequence[str]) -> Iterator[int]:
    """The index at which each batch ends. Without texts, there is one batch, which is empty."""
    begin, size = 0, 0
    for index, text in enumerate(texts):
        text_size = len(text.encode())
        is_full = index - begin == TEXTS_MAX or size + text_size > TEXT_BYTES_MAX
        if is_full and index > begin:
            yield index
            begin, size = index, 0
        size += text_size
    yield len(texts)
