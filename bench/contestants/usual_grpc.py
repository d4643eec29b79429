"""The usual gRPC way: a servicer of grpc.aio, the lines of httpx, and json."""

import json
import sys
from collections.abc import AsyncIterator

import grpc
import httpx
import uvloop
from eudai.v1 import generation_service_pb2 as pb, generation_service_pb2_grpc as rpc


class Gateway(rpc.GenerationServiceServicer):
    """Calls Ollama, and writes a message for each of its lines."""

    def __init__(self, ollama_url: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=ollama_url,
            timeout=None,  # noqa: S113 - a timer for each read would cost CPU time
            limits=httpx.Limits(max_connections=None),
        )

    async def Generate(
        self,
        request: pb.GenerateRequest,
        context: object,  # noqa: ARG002 - of the contract
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Forward one generation."""
        body = {"model": request.model, "prompt": request.prompt}
        yield pb.GenerateResponse(started=pb.Started(model=request.model))
        async with self._client.stream("POST", "/api/generate", json=body) as answer:
            async for line in answer.aiter_lines():
                event = json.loads(line)
                if text := event["response"]:
                    yield pb.GenerateResponse(delta=pb.Delta(text=text))
                if event["done"]:
                    usage = pb.Usage(output_tokens=event["eval_count"])
                    yield pb.GenerateResponse(
                        finished=pb.Finished(reason=pb.FINISH_REASON_STOP, usage=usage)
                    )


async def serve(port: str, ollama_url: str) -> None:
    """Serve until the process is stopped."""
    server = grpc.aio.server()
    rpc.add_GenerationServiceServicer_to_server(
        Gateway(ollama_url),  # type: ignore[abstract] # GenerateOnce answers UNIMPLEMENTED
        server,
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2]))
