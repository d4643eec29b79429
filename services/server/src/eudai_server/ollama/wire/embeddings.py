"""Decodes the body of /api/embed. No I/O."""

import msgspec

from eudai_server.core.errors import Reason, ServiceError


class Embeddings(msgspec.Struct):
    """The embeddings of some inputs, in their order."""

    embeddings: list[list[float]] = []
    prompt_eval_count: int = 0


_decoder = msgspec.json.Decoder(Embeddings)


def embeddings_from(body: bytes, inputs: int) -> Embeddings:
    """The embeddings of this number of inputs.

    Raises BACKEND_FAILURE if the body is malformed, and BACKEND_STREAM_INTERRUPTED if the number
    of embeddings differs.
    """
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServiceError(
            Reason.BACKEND_FAILURE, "Ollama returned malformed embeddings"
        ) from error
    if len(answer.embeddings) != inputs:
        raise ServiceError(
            Reason.BACKEND_STREAM_INTERRUPTED, "Ollama returned fewer embeddings than inputs"
        )
    return answer
