"""The driver of the blocking Python client: makes one call and prints what it saw."""

import json
import sys
from collections.abc import Generator
from contextlib import closing
from typing import Any

import eudai
import plan as shared
from eudai.v1 import model_service_pb2 as model_pb
from google.protobuf.json_format import MessageToDict, ParseDict
from plan import Request, Response

Responses = Generator[Response, None, None]


def generate(client: eudai.Client, request: Request) -> Responses:
    """The events of a generation. Closing the iterator leaves the stream."""
    with client.generate(**shared.generate_arguments(request)) as stream:
        for event in stream.events:
            yield MessageToDict(event)


def generate_once(client: eudai.Client, request: Request) -> Responses:
    """A generation."""
    arguments = shared.generate_arguments(request["request"])
    yield shared.generation_response(client.generate_once(**arguments))


def embed(client: eudai.Client, request: Request) -> Responses:
    """The vectors of texts."""
    yield shared.embed_response(client.embed(request["model"], request["inputs"]))


def pull(client: eudai.Client, request: Request) -> Responses:
    """The progress of a pull."""
    return transfer(client.pull(request["model"]))


def create(client: eudai.Client, request: Request) -> Responses:
    """The progress of the creation of a model."""
    return transfer(client.create(ParseDict(request, model_pb.CreateModelRequest())))


def transfer(running: eudai.Transfer[Any]) -> Responses:
    """The progress of a transfer, and then the model."""
    for progress in running:
        yield {"progress": MessageToDict(progress)}
    yield {"completed": MessageToDict(running.wait())}


def delete(client: eudai.Client, request: Request) -> Responses:
    """Delete a model."""
    client.delete(request["model"])
    yield {}


def cancel_pull(client: eudai.Client, request: Request) -> Responses:
    """Cancel a pull."""
    client.cancel_pull(request["model"])
    yield {}


def check(client: eudai.Client, request: Request) -> Responses:
    """The health of a name."""
    yield shared.health_response(is_serving=client.health(request["service"]))


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


def main() -> None:
    """Make the plan's call."""
    plan = json.load(sys.stdin)
    report = shared.Report(plan.get("leave_after"))
    with eudai.Client(sys.argv[2], **shared.connection_options(plan)) as client:
        try:
            with closing(METHODS[plan["call"]](client, plan["request"])) as responses:
                for response in responses:
                    if report.add(response):
                        break
        except eudai.EudaiError as error:
            report.fail(error)
    print(json.dumps(report.fields))


if __name__ == "__main__":
    main()
