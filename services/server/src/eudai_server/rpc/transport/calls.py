"""Wraps every RPC, so that each ends with exactly one status, whatever happens.

Every RPC is registered as a stream in both directions; on the wire there is no difference. gRPC
then calls the handler before it reads a message, so the metadata is checked first, and the cost of
reading a message is bounded (`message_reader`).
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from eudai_server.core.access import Scope
from eudai_server.core.call_limits import UNLIMITED
from eudai_server.core.errors import Reason, ServiceError
from eudai_server.rpc.access.authenticator import Authenticator
from eudai_server.rpc.access.call_limiter import CallLimiter
from eudai_server.rpc.transport.call import Call, Context, Requests, says_left
from eudai_server.rpc.transport.message_reader import ClientStalledError, MessageReader
from eudai_server.rpc.wire.values import NANOS

# Stall checks per write timeout.
CHECKS_PER_WRITE_TIMEOUT = 5
# The limit of concurrent calls of all clients. A waiting call costs about 50 KiB.
CALLS_MAX = 4096
CALLS_RETRY_AFTER_S = 1.0
# A generation ends gracefully when its caller's time is over; any other call ends this much later.
GRACE_S = 5.0
# The outcomes that deny a call, whose log records name the peer.
DENIALS = {
    Reason.UNAUTHENTICATED,
    Reason.SCOPE_MISSING,
    Reason.MODEL_FORBIDDEN,
    Reason.ADMIN_DISABLED,
}

log = logging.getLogger(__name__)

Handle = Callable[[Any, Call], Awaitable[Message | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """One RPC: how to parse its requests, and what answers them.

    `handle` takes the request, or an iterator of all requests if `requests_stream`. It returns the
    response, or writes responses itself and returns None.
    """

    # The full name, such as "eudai.v1.GenerationService/Generate".
    method: str
    request_class: type[Message]
    handle: Handle
    # None: anyone may call it.
    scope: Scope | None
    requests_stream: bool = False
    # Only the client ends the call, or it needs no model: it is not logged, and a drain does not
    # wait for it.
    idle: bool = False


class Calls:
    """The running RPCs."""

    def __init__(self, write_timeout_s: float, authenticator: Authenticator) -> None:
        """`write_timeout_s` is how long a client may go without reading while `watch` runs."""
        self._write_timeout_s = write_timeout_s
        self._authenticator = authenticator
        self._limiter = CallLimiter()
        self._reader = MessageReader()
        self._running: dict[Call, asyncio.Task[object]] = {}

    def handler(self, rpc: Rpc) -> "grpc.RpcMethodHandler[Any, Any]":
        """A handler to register.

        gRPC passes bytes, so that this server reports parse errors itself.
        """

        async def behaviour(_requests: Requests, context: Context) -> None:
            await self._run(Call(rpc.method, context, self._reader, idle=rpc.idle), rpc)

        return grpc.stream_stream_rpc_method_handler(behaviour)

    def end(self, reason: Reason, message: str, *, idle_only: bool = False) -> None:
        """End the running calls with this failure."""
        for call in list(self._running):
            if call.idle or not idle_only:
                call.end(reason, message)

    def end_unauthenticated(self) -> None:
        """End the running calls whose credential is no longer valid."""
        for call in list(self._running):
            if not (call.is_ending or self._authenticator.is_current(call.principal)):
                message = "the credential has expired, was revoked, or has other rights now"
                call.end(Reason.UNAUTHENTICATED, message, retry_after_s=None)

    async def watch(self) -> None:
        """End every call whose client does not read, or whose time is over, until cancelled.

        One periodic check of all calls, because a timer for each write would cost more than the
        write.
        """
        while True:
            await asyncio.sleep(self._write_timeout_s / CHECKS_PER_WRITE_TIMEOUT)
            latest_s = time.monotonic() - self._write_timeout_s
            for call in list(self._running):
                if call.writing_s is not None and call.writing_s < latest_s:
                    call.give_up(f"the client did not read for {self._write_timeout_s:g} s")
                elif _is_over(call):
                    message = (
                        f"the call ran for {call.limits.call_seconds} s, which is the limit of its "
                        "caller (call_seconds)"
                    )
                    call.end(Reason.QUOTA_EXCEEDED, message, retry_after_s=None)

    async def wait(self, timeout_s: float) -> None:
        """Wait until the calls that run now have ended, or the timeout passes.

        Idle calls are waited for only if they have been told to end.
        """
        busy = [task for call, task in self._running.items() if not call.idle or call.is_ending]
        if busy:
            await asyncio.wait(busy, timeout=timeout_s)

    async def _run(self, call: Call, rpc: Rpc) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - gRPC runs every handler in a task
        is_one_too_many = len(self._running) >= CALLS_MAX and not call.idle
        self._running[call] = task
        outcome = "CANCELLED"
        try:
            if is_one_too_many:
                raise _too_many_calls()
            await self._answer(call, rpc)
            outcome = "OK"
        except ServiceError as error:
            outcome = error.reason
            await call.abort(error)
        except ClientStalledError as error:
            await call.refuse(grpc.StatusCode.CANCELLED, f"{error}; the call was cancelled")
        finally:
            del self._running[call]
            if call.is_counted:
                self._limiter.leave(call.caller, idle=call.idle)
            self._log(call, outcome)

    @staticmethod
    def _log(call: Call, outcome: str) -> None:
        """Log a call that ended, unless it is a health check or the like that was not denied."""
        is_denied = outcome in DENIALS
        if call.idle and not is_denied:
            return
        fields = {
            "method": call.method,
            "outcome": outcome,
            "milliseconds": call.elapsed_ns // 1_000_000,
            **call.fields,
        }
        if is_denied:
            fields["peer"] = call.peer
        log.info("call", extra={"fields": fields})

    def _authorize(self, call: Call, scope: Scope | None) -> None:
        """Find who calls, and raise ServiceError if it may not, or not now."""
        workload = call.workload if self._authenticator.needs_certificates else ""
        call.principal = self._authenticator.authenticate(
            call.all_metadata, call.peer_host, workload
        )
        if call.principal.name:
            call.fields["principal"] = call.principal.name
        if scope is not None:
            self._authenticator.authorize(call.principal, scope)
        call.limits = self._authenticator.limits_of(call.principal)
        if call.idle or call.limits is not UNLIMITED:
            self._limiter.enter(call.caller, call.limits, idle=call.idle)
            call.is_counted = True

    async def _answer(self, call: Call, rpc: Rpc) -> None:
        """Run a handler.

        It ends with an answer, a ServiceError, or the cancellation of its call.
        """
        try:
            call.accept_request_id()
            self._authorize(call, rpc.scope)
            kind = rpc.request_class
            request = call.read_all(kind) if rpc.requests_stream else await call.read(kind)
            response = await rpc.handle(request, call)
            if response is not None:
                await call.write(response)
        except (ServiceError, ClientStalledError, grpc.aio.AbortError):
            raise
        except asyncio.CancelledError as error:
            ending = call.ended_by()
            if ending is not None:
                raise ending from None
            if call.left:
                raise
            # Neither the client nor the server cancelled the call: without a status the client
            # would wait for ever.
            raise _incident(call, error) from None
        except Exception as error:
            if says_left(error):
                raise asyncio.CancelledError from error
            raise _incident(call, error) from error


def _is_over(call: Call) -> bool:
    limit_s = call.limits.call_seconds
    return (
        limit_s is not None
        and not (call.idle or call.is_ending)
        and call.elapsed_ns / NANOS > limit_s + GRACE_S
    )


def _too_many_calls() -> ServiceError:
    return ServiceError(
        Reason.QUEUE_FULL,
        "the server has reached its limit of concurrent calls; retry the call",
        retry_after_s=CALLS_RETRY_AFTER_S,
    )


def _incident(call: Call, error: BaseException) -> ServiceError:
    """An internal error: the caller gets an incident number, the log gets the details."""
    incident = uuid.uuid4().hex[:12]
    log.error(
        "internal error",
        exc_info=error,
        extra={"fields": {"method": call.method, "incident": incident, **call.fields}},
    )
    return ServiceError(
        Reason.INTERNAL,
        f"internal error; the server's log has the details under incident {incident}",
        metadata={"incident": incident},
    )
