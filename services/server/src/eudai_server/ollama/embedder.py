"""Embeds batches with Ollama, part by part: implements the port `Embedder`."""

from collections.abc import AsyncGenerator, Sequence

from eudai_server.core.embedding import Batch, Vectors
from eudai_server.core.errors import InvalidRequestError, Reason, ServiceError, Violation
from eudai_server.ollama.state.model_request import ModelRequest
from eudai_server.ollama.state.ollama_state import OllamaState
from eudai_server.ollama.transport.time_limit import time_limit
from eudai_server.ollama.wire.embeddings import Embeddings, embeddings_from
from eudai_server.ollama.wire.requests import embed_request_from

# Ollama embeds the inputs of a request one after another, and only closing the connection stops it.
INPUTS_PER_PART = 16

# Failures that a single input may have caused.
_OF_AN_INPUT = (Reason.CONTEXT_LENGTH_EXCEEDED, Reason.BACKEND_FAILURE)
# A text that every model can embed.
_HARMLESS = (".",)


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
        request = ModelRequest(
            self._state,
            batch.model,
            batch.load,
            expected_digest=batch.expected_digest,
            embeds=True,
        )
        with request:
            if request.needs_load:
                await request.load()
            facts = self._state.catalog.facts(batch.model)
            for begin in range(0, len(batch.inputs), INPUTS_PER_PART):
                part = await self._part(batch, begin)
                yield Vectors(part.embeddings, part.prompt_eval_count, facts.name, facts.digest)
            request.complete()

    async def _part(self, batch: Batch, begin: int) -> Embeddings:
        inputs = batch.inputs[begin : begin + INPUTS_PER_PART]
        try:
            return await self._send(batch, inputs)
        except ServiceError as error:
            if error.reason not in _OF_AN_INPUT:
                raise
        # Ollama fails a part as a whole without naming an input; embedding one at a time finds it.
        alone = [await self._single(batch, begin + index) for index in range(len(inputs))]
        return Embeddings(
            [part.embeddings[0] for part in alone], sum(part.prompt_eval_count for part in alone)
        )

    async def _single(self, batch: Batch, index: int) -> Embeddings:
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

    async def _blame(self, batch: Batch, index: int) -> Embeddings:
        """Embed an input that failed before. Raises the failure if the input caused it."""
        try:
            return await self._send(batch, batch.inputs[index : index + 1])
        except ServiceError as error:
            if error.reason is not Reason.BACKEND_FAILURE:
                raise
            raise _blamed(index, error) from error

    async def _send(self, batch: Batch, inputs: Sequence[str]) -> Embeddings:
        message = f"Ollama did not return embeddings within {self._timeout_s:g} s"
        async with time_limit(self._timeout_s, message):
            body = await self._state.endpoint.fetch(embed_request_from(batch, inputs))
        embeddings = embeddings_from(body, len(inputs))
        _check_dimensions(batch, embeddings)
        return embeddings


def _blamed(index: int, error: ServiceError) -> ServiceError:
    """The failure, with the input that caused it."""
    field = f"inputs[{index}]"
    return ServiceError(
        error.reason,
        f"{field}: {error.message}",
        metadata=error.metadata,
        violations=[Violation(field, error.message)],
    )


def _check_dimensions(batch: Batch, part: Embeddings) -> None:
    shortest = min(map(len, part.embeddings))
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
