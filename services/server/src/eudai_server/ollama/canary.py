"""A model goes in; whether it generates comes out. One token, asked for as any other generation is."""

import asyncio
from dataclasses import replace

from eudai_server.generation import Generation, RawPrompt
from eudai_server.ollama.client import Client
from eudai_server.ollama.encode import request_from

PROMPT = RawPrompt(".")


async def answers(client: Client, model: Generation, limit_s: float) -> bool:
    """Whether one token of a generation's model comes within the limit. Raises ServiceError where Ollama fails it.

    The load options are the generation's, since others would load the model anew.
    """
    load = replace(model.load, keep_alive_s=None)
    route, body = request_from(Generation(id="", model=model.model, input=PROMPT, max_output_tokens=1, load=load), can_think=False)
    try:
        async with asyncio.timeout(limit_s):
            await client.fetch("POST", route, body, model=model.model)
    except TimeoutError:
        return False
    return True
