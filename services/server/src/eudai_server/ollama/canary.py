"""A model goes in; whether it generates comes out. One token, asked for as any other generation is."""

import asyncio
from dataclasses import replace

from eudai_server.generation import Generation, LoadOptions, RawPrompt
from eudai_server.ollama.client import Client
from eudai_server.ollama.encode import request_from

PROMPT = RawPrompt(".")


async def answers(client: Client, model: str, load: LoadOptions, limit_s: float) -> bool:
    """Whether one token comes within the limit. Raises ServiceError where Ollama fails it.

    `load` as the model is loaded, since other options would load it anew.
    """
    generation = Generation(
        id="", model=model, input=PROMPT, max_output_tokens=1, load=replace(load, keep_alive_s=None)
    )
    route, body = request_from(generation, can_think=False)
    try:
        async with asyncio.timeout(limit_s):
            await client.fetch("POST", route, body, model=model)
    except TimeoutError:
        return False
    return True
