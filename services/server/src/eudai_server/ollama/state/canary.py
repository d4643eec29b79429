"""Asks a model for one token, or one embedding, to find out whether it answers."""

import asyncio
from dataclasses import replace

from eudai_server.core.embedding import Batch
from eudai_server.core.generation import Generation, LoadOptions, RawPrompt
from eudai_server.core.model_name import ModelName
from eudai_server.ollama.state.endpoint import Endpoint
from eudai_server.ollama.wire.requests import embed_request_from, request_from

TEXT = "."


async def answers(
    endpoint: Endpoint, model: ModelName, load: LoadOptions, limit_s: float, *, embeds: bool = False
) -> bool:
    """Whether an answer comes within the limit. Raises ServiceError if Ollama reports a failure.

    `load` must be the options that the model is loaded with, because others would reload it.
    `embeds` asks for an embedding, because an embedding model generates nothing.
    """
    load = replace(load, keep_alive_s=None)
    if embeds:
        batch = Batch(model=model, inputs=(TEXT,), load=load)
        request = embed_request_from(batch, batch.inputs)
    else:
        generation = Generation(
            id="", model=model, input=RawPrompt(TEXT), max_output_tokens=1, load=load
        )
        request = request_from(generation, can_think=False)
    try:
        async with asyncio.timeout(limit_s):
            await endpoint.fetch(request, vital=True)
    except TimeoutError:
        return False
    return True
