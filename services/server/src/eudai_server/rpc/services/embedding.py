"""EmbeddingService: decodes a batch, embeds it and streams the vectors in order."""

from collections.abc import Iterator
from contextlib import aclosing

from eudai.v1 import embedding_service_pb2 as pb

from eudai_server.core.embedding import Batch, Embedder, Vectors
from eudai_server.core.errors import Violation
from eudai_server.core.model_name import model_name_from
from eudai_server.rpc.transport.call import Call
from eudai_server.rpc.wire.generation_request import load_from
from eudai_server.rpc.wire.parsing import parse
from eudai_server.rpc.wire.violations import (
    digest_violations,
    load_violations,
    reference_violations,
    require,
)

INPUTS_MAX = 4096


class EmbeddingService:
    """Implements EmbeddingService with an embedder."""

    def __init__(self, embedder: Embedder, *, load_options: bool) -> None:
        """`load_options` is whether the operator allows callers to set them."""
        self._embedder = embedder
        self._load_options = load_options

    async def embed(self, data: bytes, call: Call) -> None:
        """Stream the vectors as soon as they are ready."""
        request = parse(pb.EmbedRequest, data)
        batch = batch_from(
            request,
            load_options=self._load_options,
            caller=call.caller,
            deadline_s=call.deadline_s,
        )
        call.fields |= {"model": request.model, "inputs": len(request.inputs)}
        first = True
        async with aclosing(self._embedder.embed(batch)) as parts:
            async for part in parts:
                await call.write(response_from(part, first=first).SerializeToString())
                first = False


def batch_from(
    request: pb.EmbedRequest, *, load_options: bool, caller: str, deadline_s: float | None
) -> Batch:
    """Validate and convert a request.

    `deadline_s` is the end of the call as `time.monotonic()`; None if it has no deadline. Raises
    InvalidRequestError, CLOUD_DISABLED or LOAD_OPTIONS_FORBIDDEN.
    """
    require(_violations(request))
    return Batch(
        model=model_name_from(request.model).listed,
        inputs=tuple(request.inputs),
        caller=caller,
        deadline_s=deadline_s,
        dimensions=request.dimensions if request.HasField("dimensions") else None,
        truncate=request.truncate,
        load=load_from(request.load, allowed=load_options),
        expected_digest=request.expected_digest,
    )


def response_from(part: Vectors, *, first: bool) -> pb.EmbedResponse:
    """Convert some of the vectors; the first response names the model."""
    return pb.EmbedResponse(
        embeddings=(pb.Embedding(values=vector) for vector in part.vectors),
        input_tokens=part.input_tokens,
        model=part.model if first else "",
        digest=part.digest if first else "",
    )


def _violations(request: pb.EmbedRequest) -> Iterator[Violation]:
    yield from reference_violations(model=request.model)
    if not 1 <= len(request.inputs) <= INPUTS_MAX:
        yield Violation("inputs", f"must be 1 to {INPUTS_MAX} texts, not {len(request.inputs)}")
    if request.HasField("dimensions") and request.dimensions < 1:
        yield Violation("dimensions", "must be more than 0; leave it out for all dimensions")
    yield from load_violations(request.load, "load")
    yield from digest_violations(request.expected_digest)
