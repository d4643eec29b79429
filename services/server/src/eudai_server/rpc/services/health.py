"""Serves grpc.health.v1 from the readiness.

A name is SERVING only while calls to it can be served; `liveness` alone ignores the backend.
"""

import asyncio
from collections.abc import Collection

import grpc
from grpc_health.v1 import health_pb2 as pb

from eudai_server.core.access import Principal, Scope
from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.model_name import key_of, violation_of
from eudai_server.core.readiness import Readiness
from eudai_server.rpc.transport.call import Call

LIVENESS = "liveness"
WHOLE = ""
MODEL_PREFIX = "model/"
# Each watch costs a queue and a stream; a mesh needs one per proxy.
WATCHERS_MAX = 1024


class HealthService:
    """Implements Check and Watch."""

    def __init__(self, readiness: Readiness, services: Collection[str]) -> None:
        """`services` are the full names of the services that need the backend."""
        self._readiness = readiness
        self._services = frozenset(services)
        self._watchers: set[asyncio.Event] = set()
        readiness.listen(self._wake)

    async def check(self, request: pb.HealthCheckRequest, call: Call) -> pb.HealthCheckResponse:
        """The status of a name; NOT_FOUND for an unknown one, as the protocol requires."""
        status = self._status(request.service, call.principal)
        if status is None:
            await call.refuse(
                grpc.StatusCode.NOT_FOUND,
                f"unknown health name; valid names are '', {LIVENESS!r}, a full service name and "
                "model/<reference>",
            )
        return pb.HealthCheckResponse(status=status)

    async def watch(self, request: pb.HealthCheckRequest, call: Call) -> None:
        """Stream a name's status at each change, until the client leaves or the server drains."""
        if len(self._watchers) >= WATCHERS_MAX:
            raise ServiceError(
                Reason.QUOTA_EXCEEDED,
                f"the limit of {WATCHERS_MAX} open health watches is reached; close one",
                retry_after_s=1.0,
            )
        changed = asyncio.Event()
        self._watchers.add(changed)
        # A drain ends the watch only after it has reported NOT_SERVING.
        call.on_end = changed.set
        try:
            sent = None
            while True:
                changed.clear()
                status = self._status(request.service, call.principal)
                status = pb.HealthCheckResponse.SERVICE_UNKNOWN if status is None else status
                if status != sent:
                    await call.write(pb.HealthCheckResponse(status=status))
                    sent = status
                if not changed.is_set():
                    call.raise_if_ended()
                await changed.wait()
        finally:
            self._watchers.discard(changed)

    def _wake(self) -> None:
        for changed in self._watchers:
            changed.set()

    def _status(self, name: str, principal: Principal) -> int | None:
        """The status of a name; None if there is no such name for this principal."""
        readiness = self._readiness
        if name == LIVENESS:
            serving = True
        elif name == WHOLE or name in self._services:
            serving = readiness.serving
        elif name.startswith(MODEL_PREFIX) and not violation_of(name.removeprefix(MODEL_PREFIX)):
            key = key_of(name.removeprefix(MODEL_PREFIX))
            if Scope.MODELS_READ not in principal.scopes or not principal.models.allow(key):
                return None
            serving = readiness.serves(key)
        else:
            return None
        ready = name == LIVENESS or not readiness.draining
        status: int = (
            pb.HealthCheckResponse.SERVING
            if serving and ready
            else pb.HealthCheckResponse.NOT_SERVING
        )
        return status
