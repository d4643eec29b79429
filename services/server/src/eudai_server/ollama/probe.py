"""Ollama is asked every second, and its answers to callers are watched; the catalog and the readiness come out."""

import asyncio
import logging
from contextlib import suppress

from eudai_server.errors import ServiceError, UnreachableError
from eudai_server.generation import LoadOptions
from eudai_server.ollama.canary import answers
from eudai_server.ollama.catalog import Catalog
from eudai_server.ollama.client import Client
from eudai_server.ollama.gpu import Gpu
from eudai_server.readiness import Readiness

INTERVAL_S = 1.0
TIMEOUT_S = 0.5
# One slow answer of a busy machine is no outage. A refused connection is.
FAILURES_MAX = 2
# Generations in a row that Ollama left without a word, though it answers questions: what generates hangs.
STALLS_MAX = 3
# A question may be lost in what hangs, so it is asked anew soon; and every fifth time it waits, for a model that is slow.
CANARY_TIMEOUT_S = 2.0
PATIENT_TIMEOUT_S = 30.0
PATIENT_EVERY = 5

log = logging.getLogger(__name__)


class Probe:
    """Keeps `catalog` and `readiness` true: down within 2 s of an outage, up within 2 s of its end.

    A backend that answers questions and never generates is down too.
    """

    def __init__(self, client: Client, catalog: Catalog, readiness: Readiness, gpu: Gpu) -> None:
        """Asks nothing before `run`."""
        self._client = client
        self._catalog = catalog
        self._readiness = readiness
        self._gpu = gpu
        self._stalls = 0
        # Of which model the last one was.
        self._stalled = ("", LoadOptions())
        self._tries = 0
        self._failures = 0
        self._looked = False
        # No need to wait for the next probe where a call found nobody listening.
        client.on_refused = lambda: self._set(up=False)

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            up = await self._probe()
            if up and self._hangs:
                await self._try_again(*self._stalled)
            # After a first failure look again at once: two of them must not take three intervals.
            await asyncio.sleep(INTERVAL_S if up or not self._readiness.backend_up else 0)

    async def refresh(self) -> None:
        """Ask now. Raises ServiceError, or TimeoutError."""
        async with asyncio.timeout(TIMEOUT_S):
            # One after the other, so that a failure leaves no request behind.
            tags = await self._client.fetch("GET", "/api/tags")
            ps = await self._client.fetch("GET", "/api/ps")
            if not self._readiness.backend_up:
                self._catalog.take_version(await self._client.fetch("GET", "/api/version"))
        self._catalog.refresh(tags, ps)
        self._gpu.look()
        self._failures = 0
        self._set(up=not self._hangs)

    def require_up(self) -> None:
        """Raise UnreachableError at once where the last probes say that Ollama is down."""
        if self._looked and not self._readiness.backend_up:
            raise UnreachableError(INTERVAL_S)

    def stalled(self, model: str, load: LoadOptions) -> None:
        """Ollama left a generation of it without a word for too long."""
        self._stalls += 1
        self._stalled = model, load
        if self._hangs:
            self._set(up=False)

    def answered(self) -> None:
        """Ollama brought a generation to its end."""
        hung = self._hangs
        self._stalls = self._tries = 0
        if hung:
            self._set(up=True)

    @property
    def _hangs(self) -> bool:
        return self._stalls >= STALLS_MAX

    async def _try_again(self, model: str, load: LoadOptions) -> None:
        """Nobody is let through to a backend that hangs, so a token of our own tells when it goes on."""
        self._tries += 1
        limit_s = CANARY_TIMEOUT_S if self._tries % PATIENT_EVERY else PATIENT_TIMEOUT_S
        with suppress(ServiceError):
            if not self._catalog.resident_digest(model) or await answers(
                self._client, model, load, limit_s
            ):
                self.answered()

    async def _probe(self) -> bool:
        try:
            await self.refresh()
        except (ServiceError, TimeoutError):
            self._failures += 1
            if self._failures >= FAILURES_MAX or not self._looked:
                self._set(up=False)
            return False
        return True

    def _set(self, *, up: bool) -> None:
        if not self._looked or up != self._readiness.backend_up:
            log.warning("ollama answers" if up else "ollama does not answer")
        self._looked = True
        self._readiness.update(backend_up=up, models=self._catalog.names if up else frozenset())
