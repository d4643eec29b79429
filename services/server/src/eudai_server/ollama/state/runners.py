"""Finds which model a reference names, and which of Ollama's runners serves it.

A runner is the process that generates. Ollama has one per file of weights, so two names of a model,
or two models created from the same file, compete for one runner.
"""

from eudai_server.core.errors import ServiceError, UnreachableError
from eudai_server.core.model_name import ModelName
from eudai_server.core.models import Identity
from eudai_server.ollama.state.catalog import Facts
from eudai_server.ollama.state.ollama_state import OllamaState
from eudai_server.ollama.transport.client import UNREACHABLE_RETRY_AFTER_S
from eudai_server.ollama.transport.time_limit import time_limit
from eudai_server.ollama.wire.models import ShownModel, shown_model
from eudai_server.ollama.wire.requests import show_request_from

SHOW_TIMEOUT_S = 5.0


class Runners:
    """Identifies models, so that callers of models with one runner share one queue."""

    def __init__(self, state: OllamaState) -> None:
        """Sends nothing yet."""
        self._state = state

    async def identify(self, model: ModelName) -> Identity:
        """The model that a reference names.

        Raises ModelNotFoundError if Ollama does not have it, UnreachableError if that cannot be
        determined, and BACKEND_STALLED if the model hangs.
        """
        self._state.endpoint.require_up()
        facts = await self._find(model)
        self._state.hangs.require_answering(model)
        if not self._state.catalog.is_shown(model):
            self._state.catalog.record_shown(model, await self._show(facts))
        return Identity(self._state.catalog.runner_of(model), facts.name, facts.digest)

    async def _find(self, model: ModelName) -> Facts:
        if not self._state.catalog.has(model):
            # It may have been pulled or created a moment ago.
            try:
                await self._state.probe.refresh()
            except ServiceError:
                raise UnreachableError(UNREACHABLE_RETRY_AFTER_S) from None
        return self._state.catalog.require_model(model)

    async def _show(self, facts: Facts) -> ShownModel:
        """The description of a model, with nothing in it if Ollama does not describe it."""
        try:
            async with time_limit(SHOW_TIMEOUT_S, "Ollama did not describe the model"):
                show = await self._state.endpoint.fetch(show_request_from(facts.name))
            return shown_model(show)
        except ServiceError:
            return ShownModel()
