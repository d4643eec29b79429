"""The driver of the Python client for asyncio: makes one call and prints what it saw."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import eudai
import plan as shared
from eudai.v1 import model_service_pb2 as model_pb
from google.protobuf.json_format import MessageToDict, ParseDict
from plan import Request, Response

Responses = AsyncGenerator[Response, None]


async def generate(client: eudai.AsyncClient, request: Request) -> Responses:
    """The events of a generation. Closing the iterator leaves the stream."""
    async with client.generate(**shared.generate_arguments(request)) as stream:
        async for event in stream.events:
            yield MessageToDict(event)


async def generate_once(client: eudai.AsyncClient, request: Request) -> Responses:
    """A generation."""
    arguments = shared.generate_arguments(request["request"])
    yield shared.generation_response(await client.generate_once(**arguments))


async def embed(client: eudai.AsyncClient, request: Request) -> Responses:
    """The vectors of texts."""
    yield shared.embed_response(await client.embed(request["model"], request["inputs"]))


def pull(client: eudai.AsyncClient, request: Request) -> Responses:
    """The progress of a pull."""
    return transfer(client.pull(request["model"]))


def create(client: eudai.AsyncClient, request: Request) -> Responses:
    """The progress of the creation of a model."""
    return transfer(client.create(ParseDict(request, model_pb.CreateModelRequest())))


async def transfer(running: eudai.AsyncTransfer[Any]) -> Responses:
    """The progress of a transfer, and then the model."""
    async for progress in running:
        yield {"progress": MessageToDict(progress)}
    yield {"completed": MessageToDict(await running.wait())}


async def delete(client: eudai.AsyncClient, request: Request) -> Responses:
    """Delete a model."""
    await client.delete(request["model"])
    yield {}


async def cancel_pull(client: eudai.AsyncClient, request: Request) -> Responses:
    """Cancel a pull."""
    await client.cancel_pull(request["model"])
    yield {}


async def check(client: eudai.AsyncClient, request: Request) -> Responses:
    """The health of a name."""
    yield shared.health_response(is_serving=await client.health(request["service"]))


METHODS = {
    "eudai.v1.GenerationService/Generate": generate,
    "eudai.v1.GenerationService/GenerateOnce": generate_once,
    "eudai.v1.EmbeddingService/Embed": embed,
    "eudai.v1.ModelService/PullModel": pull,
    "eudai.v1.ModelService/CreateModel": create,
    "eudai.v1.ModelService/DeleteModel": delete,
    "eudai.v1.ModelService/CancelPull": cancel_pull,
    "grpc.health.v1.Health/Check": check,
}


async def main() -> None:
    """Make the plan's call."""
    plan = json.load(sys.stdin)
    report = shared.Report(plan.get("leave_after"))
    async with eudai.AsyncClient(sys.argv[2], **shared.connection_options(plan)) as client:
        try:
            async with aclosing(METHODS[plan["call"]](client, plan["request"])) as responses:
                async for response in responses:
                    if report.add(response):
                        break
        except eudai.EudaiError as error:
            report.fail(error)
    print(json.dumps(report.fields))


if __name__ == "__main__":
    asyncio.run(main())
