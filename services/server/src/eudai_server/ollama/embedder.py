"""A Batch goes in, its vectors come out, part by part: the port `Embedder`, fulfilled by Ollama."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import msgspec

from eudai_server.embedding import Batch, Vectors
from eudai_server.errors import InvalidRequestError, Reason, ServiceError, Violation
from eudai_server.ollama.catalog import Catalog
from eudai_server.ollama.client import Client
from eudai_server.ollama.encode import embed_request_from
from eudai_server.ollama.loading import Loader
from eudai_server.ollama.probe import Probe

# Ollama embeds the inputs of one request one after the other, and cannot be stopped between them by less than its end.
INPUTS_PER_PART = 16

# A single input may be to blame for these.
_OF_AN_INPUT = (Reason.CONTEXT_LENGTH_EXCEEDED, Reason.BACKEND_FAILURE)


class _WireEmbeddings(msgspec.Struct):
    embeddings: list[list[float]] = []
    prompt_eval_count: int = 0


_decoder = msgspec.json.Decoder(_WireEmbeddings)


class OllamaEmbedder:
    """Embeds with one Ollama."""

    def __init__(
        self, client: Client, catalog: Catalog, probe: Probe, loader: Loader, *, timeout_s: float
    ) -> None:
        """`timeout_s` bounds a load, and each part."""
        self._client = client
        self._catalog = catalog
        self._probe = probe
        self._loader = loader
        self._timeout_s = timeout_s

    async def embed(self, batch: Batch) -> AsyncGenerator[Vectors, None]:
        """As `Embedder.embed` says."""
        self._probe.require_up()
        self._catalog.check_digest(batch.model, batch.expected_digest)
        if not self._loader.is_loaded(batch.model, batch.load):
            await self._loader.load(batch.model, batch.load, embeds=True)
            self._catalog.check_digest(batch.model, batch.expected_digest)
        facts = self._catalog.facts(batch.model)
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
        # Ollama fails a part as a whole and does not say why; one at a time tells which input it was.
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
            violation = Violation(f"inputs[{index}]", error.message)
            raise ServiceError(
                error.reason,
                f"inputs[{index}]: {error.message}",
                metadata=error.metadata,
                violations=[violation],
            ) from error

    async def _send(self, batch: Batch, inputs: Sequence[str]) -> _WireEmbeddings:
        route, body = embed_request_from(batch, inputs)
        try:
            async with asyncio.timeout(self._timeout_s):
                data = await self._client.fetch("POST", route, body, model=batch.model)
        except TimeoutError:
            raise ServiceError(
                Reason.BACKEND_STALLED, f"Ollama did not embed within {self._timeout_s:g} s"
            ) from None
        try:
            wire = _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServiceError(
                Reason.BACKEND_FAILURE, "Ollama sent vectors that are none"
            ) from error
        _check_shape(batch, inputs, wire)
        return wire


def _check_shape(batch: Batch, inputs: Sequence[str], wire: _WireEmbeddings) -> None:
    if len(wire.embeddings) != len(inputs):
        raise ServiceError(
            Reason.BACKEND_STREAM_INTERRUPTED, "Ollama sent fewer vectors than there were inputs"
        )
    shortest = min(map(len, wire.embeddings))
    if batch.dimensions is not None and shortest < batch.dimensions:
        raise InvalidRequestError(
            [
                Violation(
                    "dimensions",
                    f"must not be more than {shortest}, which is all that the model has",
                )
            ]
        )
