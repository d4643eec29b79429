"""Collects the vectors of an embedding."""

from collections.abc import Iterable
from typing import Any

from eudai.errors import IncompleteResponseError
from eudai.v1.embedding_service_pb2 import EmbedResponse


def checked_vectors(responses: Iterable[EmbedResponse], count: int, *, as_numpy: bool) -> Any:
    """The vectors as lists, or as a numpy array.

    Raises IncompleteResponseError if some are missing.
    """
    vectors = [list(each.values) for response in responses for each in response.embeddings]
    if len(vectors) != count:
        raise IncompleteResponseError(f"the server sent {len(vectors)} of {count} vectors")
    if not as_numpy:
        return vectors
    try:
        import numpy as np  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ImportError("as_numpy=True needs numpy: pip install eudai[numpy]") from error
    return np.array(vectors, dtype=np.float32)
