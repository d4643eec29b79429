"""Finds models that hang: Ollama answers, but the process that runs the model sends nothing.

Requests to a hanging model are refused and its health is NOT_SERVING; other models are not
affected. Because no request reaches the model, the server itself asks it for a token to find out
when it answers again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from eudai_server.core.background import run_again
from eudai_server.core.errors import Reason, ServiceError
from eudai_server.core.generation import LoadOptions
from eudai_server.core.model_name import ModelName
from eudai_server.core.readiness import Readiness
from eudai_server.ollama.state.canary import answers
from eudai_server.ollama.state.catalog import Catalog
from eudai_server.ollama.state.endpoint import Endpoint

# The number of consecutive stalls after which a model hangs. Fewer may be a slow prompt.
STALLS_MAX = 3
# The pause before a hanging model is asked for a token again.
INTERVAL_S = 1.0
# A canary may be lost in the hanging runner, so it is soon abandoned and repeated. Every fifth one
# waits longer, in case the model is only slow.
CANARY_TIMEOUT_S = 2.0
PATIENT_TIMEOUT_S = 30.0
PATIENT_EVERY = 5


class _Stalls:
    """The stalls of one runner."""

    def __init__(self) -> None:
        self.count = 0
        # The last request that stalled; the canary repeats its model and options.
        self.model: ModelName
        self.load = LoadOptions()
        self.embeds = False
        self.canary: asyncio.Task[None] | None = None

    @property
    def hangs(self) -> bool:
        return self.count >= STALLS_MAX


class Hangs:
    """Counts stalls per runner, because models that share a runner hang together."""

    def __init__(self, endpoint: Endpoint, catalog: Catalog, readiness: Readiness) -> None:
        """Start without stalls."""
        self._endpoint = endpoint
        self._catalog = catalog
        self._readiness = readiness
        self._stalls: dict[str, _Stalls] = {}
        catalog.listen(self.update)

    def require_answering(self, model: ModelName) -> None:
        """Raise BACKEND_STALLED if the model hangs. Nothing is sent to it."""
        stalls = self._stalls.get(self._catalog.runner_of(model))
        if stalls and stalls.hangs:
            raise ServiceError(
                Reason.BACKEND_STALLED,
                f"model {model.listed!r} hangs: Ollama sends no output for it; an operator can "
                "unload it with UnloadModel",
                retry_after_s=INTERVAL_S,
            )

    def record_stall(self, model: ModelName, load: LoadOptions, *, embeds: bool = False) -> None:
        """Record that a request got no output within its limit; `embeds` as in `canary.answers`."""
        stalls = self._stalls.setdefault(self._catalog.runner_of(model), _Stalls())
        stalls.count += 1
        stalls.model, stalls.load, stalls.embeds = model, load, embeds
        self.update()

    def record_answer(self, model: ModelName) -> None:
        """Record that a request for the model was completed."""
        if self._stalls:
            self._forget(self._catalog.runner_of(model))

    def update(self) -> None:
        """Find out which models hang, after a stall or an update of the catalog."""
        resident = self._catalog.resident_runners
        for runner, stalls in list(self._stalls.items()):
            if not stalls.hangs:
                continue
            if runner not in resident:
                # The hanging runner is gone; the next request starts a new one.
                self._forget(runner)
            elif stalls.canary is None:
                self._start_canary(runner, stalls)
        self._report()

    @asynccontextmanager
    async def without_canary(self, model: ModelName) -> AsyncIterator[None]:
        """Send the model no canary during the block, because one would keep it in memory."""
        stalls = self._stalls.get(self._catalog.runner_of(model))
        if stalls and stalls.canary:
            stalls.canary.cancel()
            await asyncio.wait((stalls.canary,))
        try:
            yield
        finally:
            if stalls:
                stalls.canary = None
                self.update()

    async def close(self) -> None:
        """Stop all canaries."""
        tasks = [stalls.canary for stalls in self._stalls.values() if stalls.canary]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start_canary(self, runner: str, stalls: _Stalls) -> None:
        stalls.canary = asyncio.create_task(
            run_again(lambda: self._send_canaries(stalls), f"canary {runner}"),
            name=f"canary {runner}",
        )

    async def _send_canaries(self, stalls: _Stalls) -> None:
        tries = 0
        while True:
            tries += 1
            limit_s = CANARY_TIMEOUT_S if tries % PATIENT_EVERY else PATIENT_TIMEOUT_S
            with suppress(ServiceError):
                if await answers(
                    self._endpoint, stalls.model, stalls.load, limit_s, embeds=stalls.embeds
                ):
                    self.record_answer(stalls.model)
            await asyncio.sleep(INTERVAL_S)

    def _forget(self, runner: str) -> None:
        stalls = self._stalls.pop(runner, None)
        if stalls and stalls.canary:
            stalls.canary.cancel()
        if stalls and stalls.hangs:
            self._report()

    def _report(self) -> None:
        runners = {runner for runner, stalls in self._stalls.items() if stalls.hangs}
        resident = self._catalog.resident_runners
        self._readiness.hang(
            self._catalog.names_on(runners), everything=bool(runners) and resident <= runners
        )
