"""One running RPC: its messages, its metadata, and the one status that ends it."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message

from eudai_server.core.access import NOBODY
from eudai_server.core.call_limits import UNLIMITED
from eudai_server.core.errors import InvalidRequestError, Reason, ServiceError, Violation
from eudai_server.rpc.access.client_certificate import workload_in
from eudai_server.rpc.transport.message_reader import ClientStalledError, MessageReader
from eudai_server.rpc.transport.operation import complete
from eudai_server.rpc.wire.parsing import parse
from eudai_server.rpc.wire.status import CODES, status_from, trailers_from

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterable[bytes]
Metadata = tuple[tuple[str, str], ...]
Trailers = tuple[tuple[str, str | bytes], ...]

STATUS_TIMEOUT_S = 1.0
REQUEST_ID_METADATA = "eudai-request-id"
REQUEST_ID_CHARS_MAX = 100

M = TypeVar("M", bound=Message)


class Call:
    """One running RPC."""

    def __init__(self, method: str, context: Context, reader: MessageReader, *, idle: bool) -> None:
        """`idle` marks a call that only its client ends, so a drain does not wait for it."""
        self._reader = reader
        self.method = method
        self.idle = idle
        self.id = uuid.uuid4().hex
        # The caller's own id of the call; empty if there is none.
        self.request_id = ""
        # Who calls; a stranger without rights until the call is authenticated.
        self.principal = NOBODY
        # What its caller may use, once it is authenticated.
        self.limits = UNLIMITED
        # Whether it counts among the calls of its caller.
        self.is_counted = False
        self.arrived_ns = time.monotonic_ns()
        # Sent before the first response or, if there is none, with the status.
        self.metadata_to_send: Metadata = ()
        # Whether the backend may have begun to work on the request, so that a client must not
        # repeat it automatically.
        self.may_have_run = False
        # Returns one more error detail for the status of a failure, if there is one.
        self.failure_detail: Callable[[], Message | None] = _no_detail
        # Since when a write has waited for the client to read; None if no write waits.
        self.writing_s: float | None = None
        # Fields of the log record.
        self.fields: dict[str, object] = {}
        remaining_s = context.time_remaining()
        # As `time.monotonic()`; None if the call has no deadline.
        self.deadline_s = None if remaining_s is None else time.monotonic() + remaining_s
        self._context = context
        self._answered = False
        self._task = asyncio.current_task()
        self._ending: ServiceError | ClientStalledError | None = None
        # Called by `end` in place of a cancellation, if the handler ends by itself: it then calls
        # `raise_if_ended` when it has sent its last message.
        self.on_end: Callable[[], None] | None = None

    @property
    def caller(self) -> str:
        """Who shares the queues with others: the principal, or for a stranger its address."""
        name = self.principal.name
        return f"principal:{name}" if name else self.peer_host

    @property
    def peer(self) -> str:
        """The peer's address, as gRPC writes it."""
        return self._context.peer() or ""

    @property
    def peer_host(self) -> str:
        """The peer's address without the port, because one caller may have many connections."""
        return self.peer.rpartition(":")[0]

    @property
    def workload(self) -> str:
        """The name in the client's certificate; empty if there is none. Raises ServiceError."""
        return workload_in(self._context.auth_context())

    @property
    def elapsed_ns(self) -> int:
        """Nanoseconds since the call arrived."""
        return time.monotonic_ns() - self.arrived_ns

    def metadata(self, name: str) -> str | None:
        """The first value of this metadata name that the client sent."""
        return next(
            (str(value) for key, value in self.all_metadata if key == name),
            None,
        )

    @property
    def all_metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """The names and values that the client sent."""
        return self._context.invocation_metadata() or ()

    def accept_request_id(self) -> None:
        """Echo the caller's own id of the call, if there is one. Raises InvalidRequestError."""
        request_id = self.metadata(REQUEST_ID_METADATA)
        if request_id is None:
            return
        if not 1 <= len(request_id) <= REQUEST_ID_CHARS_MAX:
            description = f"must be 1 to {REQUEST_ID_CHARS_MAX} characters"
            raise InvalidRequestError([Violation(REQUEST_ID_METADATA, description)])
        self.request_id = self.fields["request_id"] = request_id
        self.metadata_to_send += ((REQUEST_ID_METADATA, request_id),)

    async def read(self, kind: type[M]) -> M:
        """Read the request of a call that has one request.

        Raises InvalidRequestError if there is none, or if it is malformed or too expensive.
        """
        data = await self._read()
        if data is None:
            raise InvalidRequestError([Violation("", "the call has no request message")])
        return parse(kind, data)

    async def read_all(self, kind: type[M]) -> AsyncGenerator[M, None]:
        """Read all messages that the client sends."""
        while (data := await self._read()) is not None:
            yield parse(kind, data)

    async def _read(self) -> bytes | None:
        message = await self._reader.read(self._context.read, self.caller)
        self.may_have_run = True
        return None if message is grpc.aio.EOF else message

    async def write(self, message: Message) -> None:
        """Send one response.

        The first response commits the call, so no metadata is sent before it.
        """
        if not self._answered:
            await self._begin()
        self.writing_s = time.monotonic()
        await complete(self._context.write(message.SerializeToString()))
        self.writing_s = None

    async def _begin(self) -> None:
        """Send the initial metadata, shielded from cancellation.

        If it were interrupted, gRPC would not know that the call is committed and could send no
        status.
        """
        self._answered = True
        sending = complete(self._context.send_initial_metadata(self.metadata_to_send))
        try:
            await asyncio.shield(sending)
        except BaseException:
            await asyncio.wait((sending,), timeout=STATUS_TIMEOUT_S)
            raise

    def set_trailers(self, *trailers: tuple[str, str]) -> None:
        """Set the trailing metadata that is sent with the status OK."""
        self._context.set_trailing_metadata(trailers)

    def end(self, reason: Reason, message: str, *, retry_after_s: float | None = 0.0) -> None:
        """End the call with this failure; called from outside its handler.

        By default another server may take the call at once. A client retries automatically only if
        no part of the call can have run.
        """
        may_have_run = self.may_have_run and not self.idle
        ending = ServiceError(
            reason, message, retry_after_s=retry_after_s, may_have_run=may_have_run
        )
        if self._ending is None and self.on_end:
            self._ending = ending
            self.on_end()
        else:
            self._cancel(ending)

    def give_up(self, message: str) -> None:
        """End a call whose client does not read: gRPC's buffer of some megabytes is full."""
        self._cancel(ClientStalledError(message))

    def _cancel(self, ending: "ServiceError | ClientStalledError") -> None:
        if self._task is not None and not self._task.cancelling():
            self._ending = ending
            self._task.cancel()

    @property
    def is_ending(self) -> bool:
        """Whether `end` or `give_up` was called."""
        return self._ending is not None

    def raise_if_ended(self) -> None:
        """Raise the failure passed to `end` or `give_up`, if any."""
        if self._ending is not None:
            raise self._ending

    def ended_by(self) -> "ServiceError | ClientStalledError | None":
        """The failure passed to `end` or `give_up`, to be sent in place of the cancellation."""
        if self._ending is not None and self._task is not None:
            self._task.uncancel()
        return self._ending

    @property
    def left(self) -> bool:
        """Whether the client or its deadline cancelled the call, rather than this server."""
        return self._task is not None and self._task.cancelling() > 0

    async def refuse(self, code: grpc.StatusCode, message: str) -> NoReturn:
        """Fail the call without error details, as protocols other than eudai's require."""
        await self._end_with(code, message, ())

    async def abort(self, error: ServiceError) -> NoReturn:
        """Fail the call with a status and all its error details."""
        if self._answered and self.may_have_run:
            error.may_have_run = True
        # gRPC keeps the exception that ends a call in a reference cycle until a garbage collection;
        # the frames of the traceback would keep the request alive too.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        if self.request_id:
            error.metadata = {"request_id": self.request_id, **error.metadata}
        status = status_from(error, self.failure_detail())
        trailers = trailers_from(error, status)
        if not self._answered:
            trailers = (*trailers, *self.metadata_to_send)
        await self._end_with(CODES[error.reason], status.message, trailers)

    async def _end_with(self, code: grpc.StatusCode, message: str, trailers: Trailers) -> NoReturn:
        """Send the status, behind messages that the client has not read yet.

        gRPC keeps it for the client; the handler does not wait.
        """
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
    """Whether an error means that the client has left. gRPC does not export its class."""
    return type(error).__name__ == "ExecuteBatchError"


def _no_detail() -> None:
    """Return nothing; the default of `Call.failure_detail`."""
