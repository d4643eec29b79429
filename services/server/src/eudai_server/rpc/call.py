"""The one wrapper round every RPC: bytes in, bytes out, and exactly one status whatever happens in between."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, NoReturn

import grpc
from eudai.v1 import error_pb2, generation_service_pb2 as pb

from eudai_server.errors import Reason, ServiceError
from eudai_server.rpc.status import CODES, status_from, trailers_from

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterable[bytes]
Metadata = tuple[tuple[str, str], ...]
Trailers = tuple[tuple[str, str | bytes], ...]

STATUS_TIMEOUT_S = 1.0
# Within a limit, at writes that wait.
LOOKS = 5

GENERATION_ID = "eudai-generation-id"

_BEFORE_THE_MODEL = (
    pb.GENERATION_PHASE_UNSPECIFIED,
    pb.GENERATION_PHASE_QUEUED,
    pb.GENERATION_PHASE_LOADING_MODEL,
)


class FrozenReaderError(Exception):
    """The client is there and does not read. What gRPC takes for it, some megabytes, is full."""


class Call:
    """One RPC while it runs."""

    def __init__(self, method: str, context: Context, *, idle: bool) -> None:
        """`idle` is a call that ends only when its client leaves, so a drain does not wait for it."""
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
        self._ending: ServiceError | FrozenReaderError | None = None

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

    async def write(self, message: bytes, *, generation: bool = False) -> None:
        """Send one message. The first commits the call, so nothing is sent, metadata included, before there is one."""
        if not self._answered:
            await self._begin(((GENERATION_ID, self.id),) if generation else ())
        self.writing_s = time.monotonic()
        await self._context.write(message)
        self.writing_s = None

    async def send_generation_id(self) -> None:
        """As a unary answer's initial metadata."""
        await self._begin(((GENERATION_ID, self.id),))

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

    def give_up(self) -> None:
        """End a call whose client does not read."""
        self._end(FrozenReaderError())

    def _end(self, ending: "ServiceError | FrozenReaderError") -> None:
        if self._ending is None and self._task is not None:
            self._ending = ending
            self._task.cancel()

    def ended_by(self) -> "ServiceError | FrozenReaderError | None":
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
                await self._context.abort(code, message, trailers)
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
        self._running: dict[Call, asyncio.Task[object]] = {}

    def handler(
        self,
        method: str,
        handle: Handle,
        *,
        requests_stream: bool = False,
        responses_stream: bool = False,
        idle: bool = False,
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """A handler to register. gRPC passes bytes through: what does not parse is ours to answer, before it would say UNKNOWN."""

        async def behaviour(request: Any, context: Context) -> bytes | None:
            return await self._run(Call(method, context, idle=idle), handle, request)

        make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[requests_stream, responses_stream]
        return make(behaviour)

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
                    call.give_up()

    async def wait(self, timeout_s: float) -> None:
        """Wait until none runs that ran when this was called, idle ones aside, or the time is up."""
        busy = [task for call, task in self._running.items() if not call.idle]
        if busy:
            await asyncio.wait(busy, timeout=timeout_s)

    async def _run(self, call: Call, handle: Handle, request: Any) -> bytes | None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - gRPC runs every handler in a task
        self._running[call] = task
        outcome = "CANCELLED"
        try:
            answer = await self._answer(call, handle, request)
            outcome = "OK"
        except ServiceError as error:
            outcome = error.reason
            await call.abort(error)
        except FrozenReaderError:
            await call.refuse(
                grpc.StatusCode.CANCELLED,
                f"the client read nothing for {self._write_timeout_s:g} s, so the call was given up",
            )
        else:
            return answer
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
    async def _answer(call: Call, handle: Handle, request: Any) -> bytes | None:
        """Every way out of a handler: an answer, a ServiceError, or the cancellation of a client that left."""
        try:
            return await handle(request, call)
        except (ServiceError, FrozenReaderError, grpc.aio.AbortError):
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
