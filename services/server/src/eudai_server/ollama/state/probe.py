"""Asks Ollama every second for its models, and updates the catalog."""

import asyncio
import logging

from eudai_server.core.errors import NoConnectionLeftError, ServiceError
from eudai_server.ollama.state.catalog import Catalog
from eudai_server.ollama.state.cloud import check_cloud
from eudai_server.ollama.state.endpoint import Endpoint
from eudai_server.ollama.state.flaws import flaw_of
from eudai_server.ollama.transport.time_limit import time_limit
from eudai_server.ollama.wire.models import ListedModel, listed_models
from eudai_server.ollama.wire.requests import Request
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

    def __init__(self, endpoint: Endpoint, catalog: Catalog) -> None:
        """Sends nothing before `run`."""
        self._endpoint = endpoint
        self._catalog = catalog
        self._failures = 0
        self._refreshing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            up = await self._probe()
            # After a first failure, probe again at once: two failures must not take three
            # intervals.
            await asyncio.sleep(INTERVAL_S if up or not self._endpoint.is_up else 0)

    async def refresh(self) -> None:
        """Probe now; concurrent callers share the answer.

        Raises ServiceError if Ollama fails or does not answer in time. An answer requested before
        this call may be outdated, so this waits for it and then asks again.
        """
        if self._refreshing:
            await asyncio.wait((self._refreshing,))
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(), name="refresh")
            self._refreshing.add_done_callback(_retrieve)
        await asyncio.shield(self._refreshing)

    async def close(self) -> None:
        """Cancel a running probe."""
        if self._refreshing:
            self._refreshing.cancel()
            await asyncio.wait((self._refreshing,))

    async def _refresh(self) -> None:
        message = f"Ollama did not answer within {TIMEOUT_S:g} s"
        try:
            async with time_limit(TIMEOUT_S, message), asyncio.TaskGroup() as group:
                tags = group.create_task(self._fetch_list("/api/tags"))
                ps = group.create_task(self._fetch_ps())
                # Another Ollama may have replaced it, also between two probes.
                if self._endpoint.strict or not self._endpoint.is_up:
                    group.create_task(self._update_version_and_cloud())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        self._catalog.update(tags.result(), ps.result())
        self._failures = 0
        refusal = self._endpoint.refusal
        self._endpoint.mark(up=not refusal, cause=refusal)

    async def _fetch(self, route: str) -> bytes:
        return await self._endpoint.fetch(Request("GET", route), vital=True)

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

    async def _update_version_and_cloud(self) -> None:
        version = version_from(await self._fetch("/api/version"))
        flaw = flaw_of(version)
        if flaw and version != self._catalog.version:
            log.warning("Ollama %s", flaw, extra={"fields": {"ollama_version": version[:100]}})
        self._catalog.version = version
        self._endpoint.refusal = flaw if self._endpoint.strict else ""
        await check_cloud(self._endpoint, self._catalog)

    async def _probe(self) -> bool:
        try:
            await self.refresh()
        except NoConnectionLeftError:
            return self._endpoint.is_up  # this says nothing about Ollama
        except ServiceError as error:
            self._failures += 1
            if self._failures >= FAILURES_MAX or not self._endpoint.is_known:
                self._endpoint.mark(up=False, cause=error.message)
            return False
        return True


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve a task's exception even if all callers have left, to avoid asyncio's warning."""
    if not task.cancelled():
        task.exception()
