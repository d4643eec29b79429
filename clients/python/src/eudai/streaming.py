"""What the streams of both clients share: the rules of iteration, and the result.

A stream is read once, inside its block. Leaving the block cancels the call.
"""

from collections.abc import Callable

import grpc

from eudai.call_errors import error_from
from eudai.errors import EudaiError, IncompleteResponseError
from eudai.results import Result, ResultBuilder
from eudai.v1 import generation_service_pb2 as pb


class StreamState:
    """The state of one stream of events."""

    def __init__(self, address: str, on_finished: Callable[[Result], None] | None) -> None:
        """`on_finished` is called once, with the result of a complete generation."""
        self._address = address
        self._on_finished = on_finished
        self._builder = ResultBuilder()
        self._is_taken = False

    @property
    def is_finished(self) -> bool:
        """Whether the last event has arrived."""
        return self._builder.is_finished

    def take(self) -> None:
        """Raise RuntimeError if the stream has already been iterated."""
        if self._is_taken:
            raise RuntimeError(
                "the stream has already been iterated: use `text` or `events`, once; "
                "`result()` has the whole output"
            )
        self._is_taken = True

    def add(self, event: pb.GenerateResponse) -> None:
        """Add an event that has arrived."""
        was_finished = self.is_finished
        self._builder.add(event)
        if self.is_finished and not was_finished and self._on_finished:
            self._on_finished(self._builder.result())

    def partial(self) -> Result:
        """The output so far."""
        return self._builder.result()

    def error_from(self, failure: grpc.RpcError) -> EudaiError:
        """The exception for a failed call, with the output so far."""
        return error_from(failure, self._address, self._builder.result())

    def result(self) -> Result:
        """The result after the end of the stream. Raises IncompleteResponseError."""
        if not self.is_finished:
            raise IncompleteResponseError(
                "the stream ended before the generation was complete", partial=self.partial()
            )
        return self._builder.result()


def require_call(call: object, *, exists: bool = True) -> None:
    """Raise RuntimeError if the block of a stream has not been entered, or has been."""
    if call is not None and not exists:
        raise RuntimeError("the stream has already been used: start another generation")
    if call is None and exists:
        raise RuntimeError("the call has not started: write `with client.generate(…) as stream:`")
