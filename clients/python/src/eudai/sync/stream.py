"""A generation that arrives event by event."""

from collections.abc import Callable, Iterator
from typing import Any, Self

import grpc

from eudai.results import Result
from eudai.streaming import StreamState, require_call
from eudai.v1 import generation_service_pb2 as pb


class Stream:
    """A running generation. The call starts when the block is entered, and leaving it cancels it.

    Iterate `text` or `events`, once; or call `result`, which reads what is left.

    >>> with client.generate("gemma3:270m", "hi") as stream:
    ...     for text in stream.text:
    ...         print(text, end="|")
    Hello| there!|
    >>> stream.result().finish_reason
    'STOP'
    """

    def __init__(self, start: Callable[[], Any], state: StreamState) -> None:
        """`start` starts the call."""
        self._start = start
        self._state = state
        self._call: Any = None

    def __enter__(self) -> Self:
        """Start the call."""
        require_call(self._call, exists=False)
        self._call = self._start()
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel the call, unless it is complete."""
        self._call.cancel()

    @property
    def text(self) -> Iterator[str]:
        """The answer, piece by piece. Reasoning and other events are only in the result.

        >>> with client.generate("gemma3:270m", "hi") as stream:
        ...     print(list(stream.text))
        ['Hello', ' there!']
        """
        self._take()
        return (event.delta.text for event in self._read() if event.delta.text)

    @property
    def events(self) -> Iterator[pb.GenerateResponse]:
        """All events, as messages of the contract.

        >>> with client.generate("gemma3:270m", "hi") as stream:
        ...     print([event.WhichOneof("event") for event in stream.events])
        ['started', 'delta', 'delta', 'finished']
        """
        self._take()
        return self._read()

    @property
    def partial(self) -> Result:
        """The output so far.

        >>> with client.generate("gemma3:270m", "hi") as stream:
        ...     _ = next(stream.text)
        ...     print(stream.partial.text, stream.partial.finish_reason == "")
        Hello True
        """
        return self._state.partial()

    def result(self) -> Result:
        """The whole output, after reading what is left.

        Raises the error of the call; or IncompleteResponseError if the block was left before the
        generation was complete.

        >>> with client.generate("gemma3:270m", "hi") as stream:
        ...     print(stream.result().text)
        Hello there!
        """
        require_call(self._call)
        if not self._state.is_finished:
            for _ in self._read():
                pass
        return self._state.result()

    def _take(self) -> None:
        require_call(self._call)
        self._state.take()

    def _read(self) -> Iterator[pb.GenerateResponse]:
        try:
            for event in self._call:
                self._state.add(event)
                yield event
        except grpc.RpcError as failure:
            raise self._state.error_from(failure) from failure
        self._state.result()  # raises if the last event is missing
