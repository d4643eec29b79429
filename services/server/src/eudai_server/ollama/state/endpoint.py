"""Sends requests to one Ollama, and keeps whether it answers."""

import logging

from eudai_server.core.errors import Reason, ServiceError, UnreachableError
from eudai_server.core.readiness import Readiness
from eudai_server.ollama.state.catalog import Catalog
from eudai_server.ollama.transport.client import (
    BODY_BYTES_MAX,
    UNREACHABLE_RETRY_AFTER_S,
    Answer,
    Client,
    RefusedError,
)
from eudai_server.ollama.wire.requests import Request

log = logging.getLogger(__name__)


class Endpoint:
    """The client of one Ollama, and whether that Ollama is up."""

    def __init__(
        self, client: Client, catalog: Catalog, readiness: Readiness, *, strict: bool = False
    ) -> None:
        """Whether Ollama is up is unknown until the first `mark`.

        `strict`: the operator does not allow a version that is known to be vulnerable.
        """
        self.strict = strict
        self.is_known = False
        self._client = client
        self._catalog = catalog
        self._readiness = readiness
        # Why the operator does not allow this version of Ollama; empty if it is allowed.
        self.refusal = ""

    @property
    def is_up(self) -> bool:
        """Whether Ollama answers, as far as is known."""
        return self._readiness.backend_up

    def require_up(self) -> None:
        """Raise UnreachableError if Ollama is down, or BACKEND_UNSUPPORTED if it is refused."""
        if self.refusal:
            raise ServiceError(
                Reason.BACKEND_UNSUPPORTED,
                "the operator does not allow this version of Ollama (EUDAI_STRICT)",
                metadata={"ollama_version": self._catalog.version},
            )
        # Until the first probe a request may find out, unless the version must be known first.
        if not self.is_up and (self.is_known or self.strict):
            raise UnreachableError(UNREACHABLE_RETRY_AFTER_S)

    def mark(self, *, up: bool, cause: str = "") -> None:
        """Record whether Ollama answers. If it does, the catalog is up to date.

        `cause` is why it does not, if that is known.
        """
        if not self.is_known or up != self.is_up:
            fields = {"cause": cause} if cause else {}
            verb = "is not used" if self.refusal else "answers" if up else "does not answer"
            log.warning("Ollama %s", verb, extra={"fields": fields})
        self.is_known = True
        self._readiness.update(backend_up=up, models=self._catalog.names if up else frozenset())

    async def open(
        self, request: Request, *, vital: bool = False, timeout_s: float | None = None
    ) -> Answer:
        """See `Client.open`."""
        try:
            return await self._client.open(request, vital=vital, timeout_s=timeout_s)
        except ServiceError as error:
            self._record(error)
            raise

    async def fetch(
        self, request: Request, *, vital: bool = False, bytes_max: int = BODY_BYTES_MAX
    ) -> bytes:
        """See `Client.fetch`."""
        try:
            return await self._client.fetch(request, vital=vital, bytes_max=bytes_max)
        except ServiceError as error:
            self._record(error)
            raise

    def _record(self, error: ServiceError) -> None:
        if isinstance(error, RefusedError):
            self.mark(up=False, cause=error.cause)  # the outage is known without the next probe
        elif error.reason is Reason.BACKEND_UNSUPPORTED:
            error.metadata["ollama_version"] = self._catalog.version
