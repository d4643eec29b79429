"""Loads models so that a caller who leaves does not stop the load.

Ollama aborts a load when the request that started it ends, and the next load starts from nothing.
So the server sends the request that loads, and callers only wait for it.
"""

import asyncio

from eudai_server.core.errors import ServiceError
from eudai_server.core.generation import LoadOptions
from eudai_server.core.model_name import ModelName
from eudai_server.ollama.state.catalog import Catalog
from eudai_server.ollama.state.endpoint import Endpoint
from eudai_server.ollama.state.probe import Probe
from eudai_server.ollama.transport.time_limit import time_limit
from eudai_server.ollama.wire.requests import load_request_from

Options = tuple[tuple[str, float], ...]
Key = tuple[str, Options, bool]


class Loader:
    """Runs one load for all callers who want the same model and options."""

    def __init__(
        self, endpoint: Endpoint, catalog: Catalog, probe: Probe, timeout_s: float
    ) -> None:
        """`timeout_s` limits one load."""
        self._endpoint = endpoint
        self._catalog = catalog
        self._probe = probe
        self._timeout_s = timeout_s
        self._loads: dict[Key, asyncio.Task[None]] = {}
        # By runner: the options and the digest of the model that it was last loaded with.
        self._loaded: dict[str, tuple[Options, str]] = {}

    def is_loaded(self, model: ModelName, load: LoadOptions) -> bool:
        """Whether the model is in memory with these options.

        That is according to the last probe and to the loads of this server.
        """
        loaded = self._loaded.get(self._catalog.runner_of(model))
        asked = (load.options, self._catalog.facts(model).digest)
        return loaded == asked and self._catalog.is_resident(model)

    async def load(self, model: ModelName, load: LoadOptions, *, embeds: bool = False) -> None:
        """Wait for the load, and start it if nobody has. Raises ServiceError if it fails.

        `embeds`: the model is for embedding, which Ollama loads by another route.
        """
        key = (self._catalog.runner_of(model), load.options, embeds)
        task = self._loads.get(key)
        if task is None:
            task = self._loads[key] = asyncio.create_task(
                self._load(model, load, embeds=embeds), name=f"load {key[0]}"
            )
            task.add_done_callback(lambda done: self._end(key, done))
        await asyncio.shield(task)

    def forget(self, model: ModelName) -> None:
        """Record that the model may have been unloaded."""
        self._loaded.pop(self._catalog.runner_of(model), None)

    async def close(self) -> None:
        """Cancel the running loads."""
        tasks = list(self._loads.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, model: ModelName, load: LoadOptions, *, embeds: bool) -> None:
        request = load_request_from(model, load, embeds=embeds)
        message = f"Ollama did not load the model within {self._timeout_s:g} s"
        async with time_limit(self._timeout_s, message):
            await self._endpoint.fetch(request)
        try:
            await self._probe.refresh()
        except ServiceError:
            return  # loaded; the next caller checks again, which costs a millisecond
        if self._catalog.is_resident(model):
            digest = self._catalog.facts(model).digest
            self._loaded[self._catalog.runner_of(model)] = (load.options, digest)

    def _end(self, key: Key, task: asyncio.Task[None]) -> None:
        del self._loads[key]
        if not task.cancelled():
            task.exception()  # mark it as retrieved, even if all callers have left
