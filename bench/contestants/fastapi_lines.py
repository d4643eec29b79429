"""FastAPI with httpx: Ollama's lines are passed through, and nothing is parsed."""

import sys
from collections.abc import AsyncIterator

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

client = httpx.AsyncClient(
    base_url=sys.argv[2],
    timeout=None,  # noqa: S113 - a timer for each read would cost CPU time
    limits=httpx.Limits(max_connections=None),
)


async def generate(request: Request) -> StreamingResponse:
    """Forward one generation."""
    return StreamingResponse(_lines(await request.body()), media_type="application/x-ndjson")


async def _lines(body: bytes) -> AsyncIterator[str]:
    async with client.stream("POST", "/api/generate", content=body) as answer:
        async for line in answer.aiter_lines():
            yield line + "\n"


if __name__ == "__main__":
    app = FastAPI()
    app.add_api_route("/api/generate", generate, methods=["POST"], response_model=None)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
