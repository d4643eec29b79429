"""Embeds batches with Ollama, part by part: implements the port `Embedder`."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec

from eudai_server.core.embedding import Batch, Vectors
from eudai_server.core.errors import InvalidRequestError, Reason, ServiceError, Violation
from eudai_server.ollama.state.ollama_state import OllamaState
from eudai_server.ollama.wire.requests import embed_request_from

# Ollama embeds the inputs of a request one after another, and only closing the connection stops it.
INPUTS_PER_PART = 16

# Failures that a single input may have caused.
_OF_AN_INPUT = (Reason.CONTEXT_LENGTH_EXCEEDED, Reason.BACKEND_FAILURE)
# A text that every model can embed.
_HARMLESS = (".",)


class _WireEmbeddings(msgspec.Struct):
    embeddings: list[list[float]] = []
    prompt_eval_count: int = 0


_decoder = msgspec.json.Decoder(_WireEmbeddings)


class OllamaEmbedder:
    """An Embedder that uses one Ollama."""

    def __init__(
        self,
        state: OllamaState,
        *,
        timeout_s: float,
    ) -> None:
        """`timeout_s` limits a load, and each part."""
        self._state = state
        self._timeout_s = timeout_s

    async def embed(self, batch: Batch) -> AsyncGenerator[Vectors, None]:
        """See `Embedder.embed`."""
        self._state.require_answering(batch.model)
        try:
            async with aclosing(self._embed(batch)) as parts:
                async for part in parts:
                    yield part
        except ServiceError as error:
            if error.reason is Reason.BACKEND_STALLED:
                self._state.hangs.stalled(batch.model, batch.load, embeds=True)
            raise
        self._state.hangs.answered(batch.model)

    async def _embed(self, batch: Batch) -> AsyncGenerator[Vectors, None]:
        self._state.catalog.check_digest(batch.model, batch.expected_digest)
        if not self._state.loader.is_loaded(batch.model, batch.load):
            await self._state.loader.load(batch.model, batch.load, embeds=True)
            self._state.catalog.check_digest(batch.model, batch.expected_digest)
        facts = self._state.catalog.facts(batch.model)
        for begin in range(0, len(batch.inputs), INPUTS_PER_PART):
            wire = await self._part(batch, begin)
            yield Vectors(wire.embeddings, wire.prompt_eval_count, facts.name, facts.digest)

    async def _part(self, batch: Batch, begin: int) -> _WireEmbeddings:
        inputs = batch.inputs[begin : begin + INPUTS_PER_PART]
        try:
            return await self._send(batch, inputs)
        except ServiceError as error:
            if error.reason not in _OF_AN_INPUT:
                raise
        # Ollama fails a part as a whole without naming an input; embedding one at a time finds it.
        alone = [await self._single(batch, begin + index) for index in range(len(inputs))]
        return _WireEmbeddings(
            [wire.embeddings[0] for wire in alone], sum(wire.prompt_eval_count for wire in alone)
        )

    async def _single(self, batch: Batch, index: int) -> _WireEmbeddings:
        try:
            return await self._send(batch, batch.inputs[index : index + 1])
        except ServiceError as error:
            if error.reason not in _OF_AN_INPUT:
                raise
            if error.reason is Reason.BACKEND_FAILURE:
                # The model's process may have ended for another reason. The input caused the
                # failure only if a harmless text can be embedded and this one fails again.
                await self._send(batch, _HARMLESS)
                return await self._blame(batch, index)
            raise _blamed(index, error) from error

    async def _blame(self, batch: Batch, index: int) -> _WireEmbeddings:
        """Embed an input that failed before. Raises the failure if the input caused it."""
        try:
            return await self._send(batch, batch.inputs[index : index + 1])
        except ServiceError as error:
            if error.reason is not Reason.BACKEND_FAILURE:
                raise
            raise _blamed(index, error) from error

    async def _send(self, batch: Batch, inputs: Sequence[str]) -> _WireEmbeddings:
        route, body = embed_request_from(batch, inputs)
        try:
            async with asyncio.timeout(self._timeout_s):
                data = await self._state.client.fetch("POST", route, body, model=batch.model)
        except TimeoutError:
            raise ServiceError(
                Reason.BACKEND_STALLED,
                f"Ollama did not return embeddings within {self._timeout_s:g} s",
            ) from None
        try:
            wire = _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServiceError(
                Reason.BACKEND_FAILURE, "Ollama returned malformed embeddings"
            ) from error
        _check_shape(batch, inputs, wire)
        return wire


def _blamed(index: int, error: ServiceError) -> ServiceError:
    """The failure, with the input that caused it."""
    field = f"inputs[{index}]"
    return ServiceError(
        error.reason,
        f"{field}: {error.message}",
        metadata=error.metadata,
        violations=[Violation(field, error.message)],
    )


def _check_shape(batch: Batch, inputs: Sequence[str], wire: _WireEmbeddings) -> None:
    if len(wire.embeddings) != len(inputs):
        raise ServiceError(
            Reason.BACKEND_STREAM_INTERRUPTED, "Ollama returned fewer embeddings than inputs"
        )
    shortest = min(map(len, wire.embeddings))
    if batch.dimensions is not None and shortest < batch.dimensions:
        raise InvalidRequestError(
            [
                Violation(
                    "dimensions",
                    f"must not be more than {shortest}, the number of dimensions of the model's "
                    "embeddings",
                )
            ]
        )
