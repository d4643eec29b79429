"""Asks Ollama every second for its models, and updates the catalog and the readiness."""

import asyncio
import logging

from eudai_server.core.errors import NoConnectionLeftError, ServiceError, UnreachableError
from eudai_server.core.readiness import Readiness
from eudai_server.ollama.state.catalog import Catalog
from eudai_server.ollama.state.cloud import check_cloud
from eudai_server.ollama.state.gpu import Gpu
from eudai_server.ollama.state.hangs import Hangs
from eudai_server.ollama.transport.client import Client
from eudai_server.ollama.wire.models import ListedModel, listed_models
from eudai_server.ollama.wire.server import version_from

INTERVAL_S = 1.0
TIMEOUT_S = 0.5
# The share of the timeout after which the probe continues without /api/ps.
PS_TIMEOUT_SHARE = 0.8
# One slow answer may be a busy machine. A refused connection is an outage.
FAILURES_MAX = 2

log = logging.getLogger(__name__)


class Probe:
    """Detects the start and the end of an outage within 2 s each."""

    def __init__(
        self, client: Client, catalog: Catalog, readiness: Readiness, gpu: Gpu, hangs: Hangs
    ) -> None:
        """Sends nothing before `run`."""
        self._client = client
        self._catalog = catalog
        self._readiness = readiness
        self._gpu = gpu
        self._hangs = hangs
        self._failures = 0
        self._looked = False
        self._refreshing: asyncio.Task[None] | None = None
        # If a call finds that nothing listens, the outage is known without the next probe.
        client.on_refused = lambda: self._set(up=False)

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            up = await self._probe()
            # After a first failure, probe again at once: two failures must not take three
            # intervals.
            await asyncio.sleep(INTERVAL_S if up or not self._readiness.backend_up else 0)

    async def refresh(self) -> None:
        """Probe now; concurrent callers share the answer.

        Raises ServiceError or TimeoutError. An answer requested before this call may be outdated,
        so this waits for it and then asks again.
        """
        if self._refreshing:
            await asyncio.wait((self._refreshing,))
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(), name="refresh")
            self._refreshing.add_done_callback(_retrieve)
        await asyncio.shield(self._refreshing)

    def require_up(self) -> None:
        """Raise UnreachableError if the last probes found Ollama down."""
        if self._looked and not self._readiness.backend_up:
            raise UnreachableError(INTERVAL_S)

    async def close(self) -> None:
        """Cancel a running probe."""
        if self._refreshing:
            self._refreshing.cancel()
            await asyncio.wait((self._refreshing,))

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
                tags = group.create_task(self._fetch_list("/api/tags"))
                ps = group.create_task(self._fetch_ps())
                if not self._readiness.backend_up:  # another Ollama may have replaced it
                    group.create_task(self._describe())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        self._catalog.update(tags.result(), ps.result())
        self._gpu.look()
        self._hangs.review()
        self._failures = 0
        self._set(up=True)

    async def _fetch(self, route: str) -> bytes:
        return await self._client.fetch("GET", route, vital=True)

    async def _fetch_list(self, route: str) -> list[ListedModel]:
        return listed_models(await self._fetch(route))

    async def _fetch_ps(self) -> list[ListedModel] | None:
        """The models in memory; None if Ollama does not answer in time.

        While Ollama checks whether a hanging runner is alive, this route waits for up to 10 s and
        all others answer. So a timeout here does not mean that Ollama is down.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S * PS_TIMEOUT_SHARE):
                return await self._fetch_list("/api/ps")
        except TimeoutError:
            return None

    async def _describe(self) -> None:
        self._catalog.version = version_from(await self._fetch("/api/version"))
        await check_cloud(self._client, self._catalog)

    async def _probe(self) -> bool:
        try:
            await self.refresh()
        except NoConnectionLeftError:
            return self._readiness.backend_up  # this says nothing about Ollama
        except (ServiceError, TimeoutError):
            self._failures += 1
            if self._failures >= FAILURES_MAX or not self._looked:
                self._set(up=False)
            return False
        return True

    def _set(self, *, up: bool) -> None:
        if not self._looked or up != self._readiness.backend_up:
            log.warning("Ollama answers" if up else "Ollama does not answer")
        self._looked = True
        self._readiness.update(backend_up=up, models=self._catalog.names if up else frozenset())


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve a task's exception even if all callers have left, to avoid asyncio's warning."""
    if not task.cancelled():
        task.exception()
