"""A model and its load options go in; it is in memory when this returns. A caller who leaves does not stop the load.

Ollama aborts a load when the request that began it goes away, and the next one starts from nothing. So the request
that loads is ours, and callers only wait for it.
"""

import asyncio

from eudai_server.errors import Reason, ServiceError
from eudai_server.generation import LoadOptions
from eudai_server.ollama.catalog import Catalog
from eudai_server.ollama.client import Client
from eudai_server.ollama.encode import load_request_from
from eudai_server.ollama.probe import Probe

Options = tuple[tuple[str, float], ...]
Key = tuple[str, Options, bool]


class Loader:
    """One load for all callers who want the same."""

    def __init__(self, client: Client, catalog: Catalog, probe: Probe, timeout_s: float) -> None:
        """`timeout_s` bounds one load."""
        self._client = client
        self._catalog = catalog
        self._probe = probe
        self._timeout_s = timeout_s
        self._loads: dict[Key, asyncio.Task[None]] = {}
        # By runner: the options, and the digest of the model, that it was last loaded with.
        self._loaded: dict[str, tuple[Options, str]] = {}

    def is_loaded(self, model: str, load: LoadOptions) -> bool:
        """Whether it is in memory with these options, as far as the last probe and our loads tell."""
        loaded = self._loaded.get(self._catalog.runner_of(model))
        asked = (load.options, self._catalog.facts(model).digest)
        return loaded == asked and self._catalog.is_resident(model)

    async def load(self, model: str, load: LoadOptions, *, embeds: bool = False) -> None:
        """Wait for the load, which is begun if nobody has. Raises ServiceError if it fails.

        `embeds`: the model is to embed; Ollama loads it by another route than one that generates.
        """
        key = (self._catalog.runner_of(model), load.options, embeds)
        task = self._loads.get(key)
        if task is None:
            task = self._loads[key] = asyncio.create_task(
                self._load(model, load, embeds=embeds), name=f"load {key[0]}"
            )
            task.add_done_callback(lambda done: self._end(key, done))
        await asyncio.shield(task)

    def forget(self, model: str) -> None:
        """It may be unloaded by now."""
        self._loaded.pop(self._catalog.runner_of(model), None)

    async def close(self) -> None:
        """Give up the loads that are under way."""
        tasks = list(self._loads.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, model: str, load: LoadOptions, *, embeds: bool) -> None:
        route, body = load_request_from(model, load, embeds=embeds)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.fetch("POST", route, body, model=model)
        except TimeoutError:
            raise ServiceError(
                Reason.BACKEND_STALLED,
                f"Ollama did not load the model within {self._timeout_s:g} s",
            ) from None
        try:
            await self._probe.refresh()
        except (ServiceError, TimeoutError):
            return  # it is loaded; the next caller asks for that again, which costs a millisecond
        if self._catalog.is_resident(model):
            digest = self._catalog.facts(model).digest
            self._loaded[self._catalog.runner_of(model)] = (load.options, digest)

    def _end(self, key: Key, task: asyncio.Task[None]) -> None:
        del self._loads[key]
        if not task.cancelled():
            task.exception()  # seen, also where every caller has left
