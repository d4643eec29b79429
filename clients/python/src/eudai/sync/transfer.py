"""A pull, a push or a creation of a model, with its progress."""

from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, Self, TypeVar

import grpc

from eudai.call_errors import error_from
from eudai.errors import IncompleteResponseError
from eudai.v1.model_service_pb2 import Model

P = TypeVar("P")


class Transfer(Generic[P]):
    """A transfer that yields messages with its progress, once. Leaving its block cancels the call.

    >>> with client.pull("gemma3:270m") as pull:
    ...     for progress in pull:
    ...         print(progress.completed_bytes, "of", progress.total_bytes)
    50 of 100
    100 of 100
    >>> pull.model.name
    'gemma3:270m'
    """

    def __init__(self, start: Callable[[], Any], address: str) -> None:
        """`start` starts the call, at the first iteration."""
        # The iterator must not refer to this object: it ends when a loop that was left drops it.
        self._models: list[Model] = []
        self._progress: Generator[P, None, None] = _read(start, address, self._models)

    def __enter__(self) -> Self:
        """Enter the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel the call, unless it is complete."""
        self._progress.close()

    def __iter__(self) -> Iterator[P]:
        """The progress. Raises the error of the call."""
        return self._progress

    def wait(self) -> Model:
        """The resulting model, after the end of the transfer.

        >>> client.pull("gemma3:270m").wait().name
        'gemma3:270m'
        """
        for _ in self._progress:
            pass
        if not self._models:
            raise RuntimeError("the block was left before the transfer was complete")
        return self._models[0]

    @property
    def model(self) -> Model | None:
        """The resulting model; None before the end of the transfer.

        >>> client.push("gemma3:270m").model is None
        True
        """
        return self._models[0] if self._models else None


def _read(
    start: Callable[[], Any], address: str, models: list[Model]
) -> Generator[Any, None, None]:
    """Yield the progress, and append the resulting model to `models`."""
    call = start()
    try:
        for response in call:
            if response.WhichOneof("event") == "completed":
                models.append(response.completed)
            elif response.WhichOneof("event") == "progress":
                yield response.progress
    except grpc.RpcError as failure:
        raise error_from(failure, address) from failure
    finally:
        call.cancel()
    if not models:
        raise IncompleteResponseError("the stream ended before the transfer was complete")
