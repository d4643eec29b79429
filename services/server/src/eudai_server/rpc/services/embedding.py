"""EmbeddingService: embeds a batch of texts and streams the vectors in order."""

from contextlib import aclosing

from eudai.v1 import embedding_service_pb2 as pb

from eudai_server.core.embedding import Embedder
from eudai_server.rpc.transport.call import Call
from eudai_server.rpc.wire.embedding import batch_from, embed_response_from


class EmbeddingService:
    """Implements EmbeddingService with an embedder."""

    def __init__(self, embedder: Embedder, *, load_options: bool) -> None:
        """`load_options` is whether the operator allows callers to set them."""
        self._embedder = embedder
        self._load_options = load_options

    async def embed(self, request: pb.EmbedRequest, call: Call) -> None:
        """Stream the vectors as soon as they are ready."""
        batch = batch_from(
            request,
            load_options=self._load_options,
            caller=call.caller,
            deadline_s=call.deadline_s,
        )
        call.fields |= {"model": request.model, "inputs": len(request.inputs)}
        call.principal.require_model(batch.model)
        first = True
        async with aclosing(self._embedder.embed(batch)) as parts:
            async for part in parts:
                await call.write(embed_response_from(part, first=first))
                first = False
