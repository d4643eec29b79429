"""A server in front of a scripted Ollama that plays recorded answers."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from eudai_server.core.model_name import model_name_from
from recorded_answers import Recording
from scripted_ollama import ScriptedOllama
from serving import Server, config_for, serving


@asynccontextmanager
async def replaying(
    recording: Recording, capabilities: Mapping[str, Sequence[str]]
) -> AsyncIterator[Server]:
    """Start both. `capabilities` are those of each model that the scripted Ollama has."""
    ollama = ScriptedOllama()
    ollama.models |= {
        model_name_from(name).listed: {"digest": "5c" * 32, "capabilities": kinds}
        for name, kinds in capabilities.items()
    }
    ollama.scripts |= dict.fromkeys(("/api/chat", "/api/generate"), recording.script)
    await ollama.start()
    try:
        async with serving(config_for(ollama.url)) as server:
            await server.until("", "SERVING")
            yield server
    finally:
        await ollama.stop()
