"""Finds which model a reference names, and which of Ollama's runners serves it.

A runner is the process that generates. Ollama has one for each file of weights, so two names of a
model, or two models made from the same file, compete for one runner.
"""

import asyncio
import re

import msgspec

from eudai_server.errors import ServiceError, UnreachableError
from eudai_server.models import Identity
from eudai_server.ollama.catalog import Facts
from eudai_server.ollama.probe import INTERVAL_S
from eudai_server.ollama.state import OllamaState

SHOW_TIMEOUT_S = 5.0

_WEIGHTS = re.compile(r"^FROM \S*(sha256-[0-9a-f]{64})$", re.MULTILINE)


class _WireShow(msgspec.Struct):
    modelfile: str = ""


_decoder = msgspec.json.Decoder(_WireShow)


class Runners:
    """Identifies models, so that what they compete for is shared between all their callers."""

    def __init__(self, state: OllamaState) -> None:
        """Ask nothing yet."""
        self._state = state

    async def identify(self, model: str) -> Identity:
        """The model that a reference names.

        Raises ModelNotFoundError where Ollama does not have it, UnreachableError where that cannot
        be told, and BACKEND_STALLED where the model hangs.
        """
        self._state.probe.require_up()
        facts = await self._find(model)
        self._state.hangs.require_going(model)
        if not self._state.catalog.knows_runner(model):
            self._state.catalog.learn_runner(model, await self._weights_of(facts))
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
        """The name of the file of weights; empty where Ollama does not tell."""
        body = msgspec.json.encode({"model": facts.name})
        try:
            async with asyncio.timeout(SHOW_TIMEOUT_S):
                show = await self._state.client.fetch("POST", "/api/show", body, model=facts.name)
            match = _WEIGHTS.search(_decoder.decode(show).modelfile)
        except (ServiceError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
            return ""
        return match[1] if match else ""
