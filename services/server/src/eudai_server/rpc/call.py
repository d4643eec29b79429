"""One RPC while it runs: its messages, its metadata, and the one status it ends with."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any, NoReturn

import grpc
from eudai.v1 import error_pb2, generation_service_pb2 as pb

from eudai_server.errors import InvalidRequestError, Reason, ServiceError, Violation
from eudai_server.rpc.message_reader import ClientStalledError, MessageReader
from eudai_server.rpc.operation import complete
from eudai_server.rpc.status import CODES, status_from, trailers_from

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterable[bytes]
Metadata = tuple[tuple[str, str], ...]
Trailers = tuple[tuple[str, str | bytes], ...]

STATUS_TIMEOUT_S = 1.0

GENERATION_ID = "eudai-generation-id"

_BEFORE_THE_MODEL = (pb.GENERATION_PHASE_QUEUED, pb.GENERATION_PHASE_LOADING_MODEL)


class Call:
    """One RPC while it runs."""

    def __init__(self, method: str, context: Context, reader: MessageReader, *, idle: bool) -> None:
        """`idle` is a call that ends only when its client leaves, so a drain does not wait for it."""
        self._reader = reader
        self.method = method
        self.idle = idle
        self.id = uuid.uuid4().hex
        self.arrived_ns = time.monotonic_ns()
        self.phase = pb.GENERATION_PHASE_UNSPECIFIED
        # How many are ahead of it while it is queued.
        self.requests_ahead: int | None = None
        self.output_sent = False
        self._was_read = False
        # Since when it writes what the client does not take.
        self.writing_s: float | None = None
        # For the log alone.
        self.fields: dict[str, object] = {}
        remaining_s = context.time_remaining()
        # As `time.monotonic()`; None where the client waits for ever.
        self.deadline_s = None if remaining_s is None else time.monotonic() + remaining_s
        self._context = context
        self._answered = False
        self._task = asyncio.current_task()
        self._ending: ServiceError | ClientStalledError | None = None

    @property
    def caller(self) -> str:
        """Who calls: the peer's address, without the port, since one caller may have many connections."""
        return (self._context.peer() or "").rpartition(":")[0]

    @property
    def elapsed_ns(self) -> int:
        """Since it arrived."""
        return time.monotonic_ns() - self.arrived_ns

    def metadata(self, name: str) -> str | None:
        """The first value of that name that the client sent."""
        return next(
            (str(value) for key, value in self._context.invocation_metadata() or () if key == name),
            None,
        )

    async def read(self) -> bytes:
        """The request of a call that has one. Raises InvalidRequestError where none was sent."""
        message = await self._next_message()
        if message is None:
            raise InvalidRequestError([Violation("", "the call has no request message")])
        return message

    async def requests(self) -> AsyncGenerator[bytes, None]:
        """Every message that the client sends."""
        while (message := await self._next_message()) is not None:
            yield message

    async def _next_message(self) -> bytes | None:
        message = await self._reader.read(self._context.read, self.caller)
        self._was_read = True
        return None if message is grpc.aio.EOF else message

    async def write(self, message: bytes, *, generation: bool = False) -> None:
        """Send one message. The first commits the call, so nothing is sent, metadata included, before there is one."""
        if not self._answered:
            await self._begin(((GENERATION_ID, self.id),) if generation else ())
        self.writing_s = time.monotonic()
        await complete(self._context.write(message))
        self.writing_s = None

    async def _begin(self, metadata: Metadata) -> None:
        """Commit the call. Interrupted, gRPC would not know that it had begun, and could then send no status: so nothing interrupts it."""
        self._answered = True
        sending = asyncio.ensure_future(self._context.send_initial_metadata(metadata))
        try:
            await asyncio.shield(sending)
        except BaseException:
            await asyncio.wait((sending,), timeout=STATUS_TIMEOUT_S)
            raise

    def set_trailers(self, *trailers: tuple[str, str]) -> None:
        """Metadata that goes out with the status OK."""
        self._context.set_trailing_metadata(trailers)

    def end(self, reason: Reason, message: str) -> None:
        """End the call from outside, with that failure.

        Another server may take it at once. A client repeats it by itself only where nothing of it
        can have run: before its request was read, or while its generation waits for its turn or its
        model. Other RPCs have no phases, and send their request to Ollama as soon as it is read.
        """
        was_sent = self._was_read and self.phase not in _BEFORE_THE_MODEL
        may_have_run = was_sent and not self.idle
        self._end(ServiceError(reason, message, retry_after_s=0.0, may_have_run=may_have_run))

    def give_up(self, message: str) -> None:
        """End a call whose client does not read. What gRPC keeps for it, some megabytes, is full."""
        self._end(ClientStalledError(message))

    def _end(self, ending: "ServiceError | ClientStalledError") -> None:
        if self._ending is None and self._task is not None:
            self._ending = ending
            self._task.cancel()

    def ended_by(self) -> "ServiceError | ClientStalledError | None":
        """The failure it was ended with from outside, to be answered in place of the cancellation."""
        if self._ending is not None and self._task is not None:
            self._task.uncancel()
        return self._ending

    @property
    def left(self) -> bool:
        """Whether the client, or its deadline, cancelled the call, rather than somebody within."""
        return self._task is not None and self._task.cancelling() > 0

    async def refuse(self, code: grpc.StatusCode, message: str) -> NoReturn:
        """Fail a call without details of ours, as a protocol that is not ours has it."""
        await self._end_with(code, message, ())

    async def abort(self, error: ServiceError) -> NoReturn:
        """Fail the call, with everything that helps to mend it."""
        if self._answered and not self.phase:
            error.may_have_run = True
        # gRPC keeps what ends a call in a cycle, until a garbage collection; the frames of these
        # would keep the request with it.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        failure = None
        if self.output_sent:
            failure = error_pb2.GenerationFailure(
                generation_id=self.id, phase=self.phase, output_sent=True
            )
        status = status_from(error, failure)
        trailers = trailers_from(error, status)
        if self.phase and not self._answered:
            trailers = (*trailers, (GENERATION_ID, self.id))
        await self._end_with(CODES[error.reason], status.message, trailers)

    async def _end_with(self, code: grpc.StatusCode, message: str, trailers: Trailers) -> NoReturn:
        """A status waits behind what a client has not read yet. gRPC keeps it for the client; nothing of ours waits with it."""
        try:
            async with asyncio.timeout(STATUS_TIMEOUT_S):
                await complete(self._context.abort(code, message, trailers))
        except TimeoutError:
            raise asyncio.CancelledError from None
        except Exception as error:
            if says_left(error):
                raise asyncio.CancelledError from error
            raise
        raise AssertionError  # pragma: no cover - abort raises


def says_left(error: Exception) -> bool:
    """Whether gRPC failed to send because the client has left. It does not export the class."""
    return type(error).__name__ == "ExecuteBatchError"
