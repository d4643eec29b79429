"""Validates an EmbedRequest, and converts it to a Batch and the vectors to responses. No I/O."""

from collections.abc import Iterator

from eudai.v1 import embedding_service_pb2 as pb

from eudai_server.core.embedding import Batch, Vectors
from eudai_server.core.errors import Violation
from eudai_server.rpc.wire.options import load_from, load_violations
from eudai_server.rpc.wire.references import References
from eudai_server.rpc.wire.violations import digest_violations, require

INPUTS_MAX = 4096


def batch_from(
    request: pb.EmbedRequest, *, load_options: bool, caller: str, deadline_s: float | None
) -> Batch:
    """Validate and convert a request.

    `deadline_s` is the end of the call as `time.monotonic()`; None if it has no deadline. Raises
    InvalidRequestError, CLOUD_DISABLED or LOAD_OPTIONS_FORBIDDEN.
    """
    references = References()
    require(_violations(request, references))
    return Batch(
        model=references.get("model"),
        inputs=tuple(request.inputs),
        caller=caller,
        deadline_s=deadline_s,
        dimensions=request.dimensions if request.HasField("dimensions") else None,
        truncate=request.truncate,
        load=load_from(request.load, allowed=load_options),
        expected_digest=request.expected_digest,
    )


def embed_response_from(part: Vectors, *, first: bool) -> pb.EmbedResponse:
    """Convert some of the vectors; the first response names the model."""
    return pb.EmbedResponse(
        embeddings=(pb.Embedding(values=vector) for vector in part.vectors),
        input_tokens=part.input_tokens,
        model=part.model if first else "",
        digest=part.digest if first else "",
    )


def _violations(request: pb.EmbedRequest, references: References) -> Iterator[Violation]:
    yield from references.read(model=request.model)
    if not 1 <= len(request.inputs) <= INPUTS_MAX:
        yield Violation("inputs", f"must be 1 to {INPUTS_MAX} texts, not {len(request.inputs)}")
    if request.HasField("dimensions") and request.dimensions < 1:
        yield Violation("dimensions", "must be more than 0; leave it out for all dimensions")
    yield from load_violations(request.load)
    if request.expected_digest:
        yield from digest_violations("expected_digest", request.expected_digest)
