"""Finds which model a reference names, and which of Ollama's runners serves it.

A runner is the process that generates. Ollama has one per file of weights, so two names of a model,
or two models created from the same file, compete for one runner.
"""

import asyncio

import msgspec

from eudai_server.core.errors import ServiceError, UnreachableError
from eudai_server.core.models import Identity
from eudai_server.ollama.state.catalog import Facts
from eudai_server.ollama.state.ollama_state import OllamaState
from eudai_server.ollama.state.probe import INTERVAL_S
from eudai_server.ollama.wire.models import weights_from

SHOW_TIMEOUT_S = 5.0


class Runners:
    """Identifies models, so that callers of models with one runner share one queue."""

    def __init__(self, state: OllamaState) -> None:
        """Sends nothing yet."""
        self._state = state

    async def identify(self, model: str) -> Identity:
        """The model that a reference names.

        Raises ModelNotFoundError if Ollama does not have it, UnreachableError if that cannot be
        determined, and BACKEND_STALLED if the model hangs.
        """
        self._state.probe.require_up()
        facts = await self._find(model)
        self._state.hangs.require_going(model)
        if not self._state.catalog.knows_runner(model):
            self._state.catalog.record_runner(model, await self._weights_of(facts))
        return Identity(self._state.catalog.runner_of(model), facts.name, facts.digest)

    async def _find(self, model: str) -> Facts:
        if not self._state.catalog.has(model):
            # It may have been pulled or created a moment ago.
            try:
                await self._state.probe.refresh()
            except (ServiceError, TimeoutError):
                raise UnreachableError(INTERVAL_S) from None
        return self._state.catalog.require(model)

    async def _weights_of(self, facts: Facts) -> str:
        """The name of the file of weights; empty if Ollama does not report it."""
        body = msgspec.json.encode({"model": facts.name})
        try:
            async with asyncio.timeout(SHOW_TIMEOUT_S):
                show = await self._state.client.fetch("POST", "/api/show", body, model=facts.name)
            return weights_from(show)
        except (ServiceError, TimeoutError):
            return ""
