"""The wrapper of every RPC: bytes in, bytes out, and exactly one status whatever happens between.

Every RPC is registered as a stream in both directions, which on the wire is the same. gRPC then
calls the handler before it reads a message, so that a call is judged by its metadata first, and
what a message may cost is bounded (`message_reader`).
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import Any, NoReturn

import grpc
from eudai.v1 import error_pb2, generation_service_pb2 as pb

from eudai_server.errors import InvalidRequestError, Reason, ServiceError, Violation
from eudai_server.rpc.message_reader import ClientStalledError, MessageReader
from eudai_server.rpc.operation import complete
from eudai_server.rpc.status import CODES, status_from, trailers_from

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterable[bytes]
Metadata = tuple[tuple[str, str], ...]
Trailers = tuple[tuple[str, str | bytes], ...]

STATUS_TIMEOUT_S = 1.0
# Within a limit, at writes that wait.
LOOKS = 5
# Calls at once, of all clients, whatever they do. One that only waits costs some 50 KiB.
CALLS_MAX = 4096
CALLS_RETRY_AFTER_S = 1.0

GENERATION_ID = "eudai-generation-id"

_BEFORE_THE_MODEL = (
    pb.GENERATION_PHASE_UNSPECIFIED,
    pb.GENERATION_PHASE_QUEUED,
    pb.GENERATION_PHASE_LOADING_MODEL,
)


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
        self.output_sent = False
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
            raise InvalidRequestError([Violation("", "the call carries no request message")])
        return message

    async def requests(self) -> AsyncGenerator[bytes, None]:
        """Every message that the client sends."""
        while (message := await self._next_message()) is not None:
            yield message

    async def _next_message(self) -> bytes | None:
        message = await self._reader.read(self._context.read, self.caller)
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
        """End the call from outside, with that failure. One that had not reached the model may be repeated elsewhere at once."""
        self._end(
            ServiceError(
                reason, message, retry_after_s=0.0 if self.phase in _BEFORE_THE_MODEL else None
            )
        )

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
            if _says_left(error):
                raise asyncio.CancelledError from error
            raise
        raise AssertionError  # pragma: no cover - abort raises


Handle = Callable[[Any, Call], Awaitable[bytes | None]]


class Calls:
    """The RPCs that run now."""

    def __init__(self, write_timeout_s: float) -> None:
        """`write_timeout_s`: how long a client may not read, where `watch` runs."""
        self._write_timeout_s = write_timeout_s
        self._reader = MessageReader()
        self._running: dict[Call, asyncio.Task[object]] = {}

    def handler(
        self, method: str, handle: Handle, *, requests_stream: bool = False, idle: bool = False
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """A handler to register. gRPC passes bytes through: what does not parse is ours to answer.

        `handle` takes the request's bytes, or the iterator of all of them if `requests_stream`.
        """

        async def behaviour(_requests: Requests, context: Context) -> None:
            call = Call(method, context, self._reader, idle=idle)
            await self._run(call, handle, requests_stream=requests_stream)

        return grpc.stream_stream_rpc_method_handler(behaviour)

    def end(self, reason: Reason, message: str, *, idle_only: bool = False) -> None:
        """End what runs, each with that failure."""
        for call in list(self._running):
            if call.idle or not idle_only:
                call.end(reason, message)

    async def watch(self) -> None:
        """Give up every call whose client does not read, until cancelled.

        One look at all of them now and then, since a timer for each write would cost more than the write.
        """
        while True:
            await asyncio.sleep(self._write_timeout_s / LOOKS)
            latest_s = time.monotonic() - self._write_timeout_s
            for call in list(self._running):
                if call.writing_s is not None and call.writing_s < latest_s:
                    call.give_up(f"the client read nothing for {self._write_timeout_s:g} s")

    async def wait(self, timeout_s: float) -> None:
        """Wait until none runs that ran when this was called, idle ones aside, or the time is up."""
        busy = [task for call, task in self._running.items() if not call.idle]
        if busy:
            await asyncio.wait(busy, timeout=timeout_s)

    async def _run(self, call: Call, handle: Handle, *, requests_stream: bool) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - gRPC runs every handler in a task
        is_one_too_many = len(self._running) >= CALLS_MAX and not call.idle
        self._running[call] = task
        outcome = "CANCELLED"
        try:
            if is_one_too_many:
                raise _too_many_calls()
            await self._answer(call, handle, requests_stream=requests_stream)
            outcome = "OK"
        except ServiceError as error:
            outcome = error.reason
            await call.abort(error)
        except ClientStalledError as error:
            await call.refuse(grpc.StatusCode.CANCELLED, f"{error}, so the call was ended")
        finally:
            del self._running[call]
            if not call.idle:
                fields = {
                    "method": call.method,
                    "outcome": outcome,
                    "milliseconds": call.elapsed_ns // 1_000_000,
                    **call.fields,
                }
                log.info("call", extra={"fields": fields})

    @staticmethod
    async def _answer(call: Call, handle: Handle, *, requests_stream: bool) -> None:
        """Every way out of a handler: an answer, a ServiceError, or the cancellation of a client that left."""
        try:
            answer = await handle(call.requests() if requests_stream else await call.read(), call)
            if answer is not None:
                await call.write(answer)
        except (ServiceError, ClientStalledError, grpc.aio.AbortError):
            raise
        except asyncio.CancelledError as error:
            ending = call.ended_by()
            if ending is not None:
                raise ending from None
            if call.left:
                raise
            # A cancellation that nobody outside asked for: without a status of ours the client would wait for ever.
            raise _incident(call, error) from None
        except Exception as error:
            if _says_left(error):
                raise asyncio.CancelledError from error
            raise _incident(call, error) from error


def _too_many_calls() -> ServiceError:
    return ServiceError(
        Reason.QUEUE_FULL,
        "this server has as many calls as it takes; repeat the call",
        retry_after_s=CALLS_RETRY_AFTER_S,
    )


def _says_left(error: Exception) -> bool:
    """How gRPC says, to what was being sent, that the client has left. It does not export the class."""
    return type(error).__name__ == "ExecuteBatchError"


def _incident(call: Call, error: BaseException) -> ServiceError:
    """A failure of our own: the caller learns a number, the log learns the rest."""
    incident = uuid.uuid4().hex[:12]
    log.error(
        "a defect", exc_info=error, extra={"fields": {"method": call.method, "incident": incident}}
    )
    return ServiceError(
        Reason.INTERNAL,
        f"a defect of this service; its log has it as incident {incident}",
        metadata={"incident": incident},
    )
