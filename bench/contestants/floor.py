"""The floor: grpc.aio on the contract, which writes the tokens itself instead of asking Ollama."""

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator

import grpc
import uvloop
from eudai.v1 import generation_service_pb2 as pb, generation_service_pb2_grpc as rpc

# As in the fake Ollama, which also defines the text of a token.
SCRIPT = re.compile(r"tokens=(\d+) interval_us=(\d+)")


class Floor(rpc.GenerationServiceServicer):
    """Writes the tokens that the prompt asks for, each with the time of its write."""

    async def Generate(
        self,
        request: pb.GenerateRequest,
        context: object,  # noqa: ARG002 - of the contract
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Write a paced answer. A late token does not delay those after it."""
        match = SCRIPT.search(request.prompt)
        tokens, interval_us = (int(group) for group in match.groups()) if match else (1, 0)
        begin_s = time.monotonic()
        yield pb.GenerateResponse(started=pb.Started(generation_id="floor", model=request.model))
        for number in range(tokens):
            wait_s = begin_s + number * interval_us / 1e6 - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            text = f" {number:06d}:{time.monotonic_ns() % 10**16:016d}"
            yield pb.GenerateResponse(delta=pb.Delta(text=text))
        yield pb.GenerateResponse(finished=pb.Finished(reason=pb.FINISH_REASON_STOP))


async def serve(port: str) -> None:
    """Serve until the process is stopped."""
    server = grpc.aio.server()
    rpc.add_GenerationServiceServicer_to_server(
        Floor(),  # type: ignore[abstract] # GenerateOnce answers UNIMPLEMENTED
        server,
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
