"""The driver of the Python client: makes one call and prints what it saw.

tests/interop/driver.py describes the plan and the report.
"""

import json
import sys
from collections.abc import Generator
from contextlib import closing
from typing import Any

import eudai
import grpc
from eudai.v1 import content_pb2, generation_service_pb2 as pb, model_service_pb2 as model_pb
from google.protobuf.json_format import MessageToDict, ParseDict

# The names of the plan, and those of the client.
CONNECTION = {
    "ca_file": "ca_file",
    "cert_file": "certificate_file",
    "key_file": "key_file",
    "token_file": "token_file",
}
Request = dict[str, Any]
Responses = Generator[dict[str, Any], None, None]


def generate(client: eudai.Client, request: Request) -> Responses:
    """The events of a generation. Closing the iterator leaves the stream."""
    with client.generate(**arguments_from(request)) as stream:
        for event in stream.events:
            yield MessageToDict(event)


def generate_once(client: eudai.Client, request: Request) -> Responses:
    """A generation, from the client's result."""
    result = client.generate_once(**arguments_from(request["request"]))
    finished = pb.Finished(reason=getattr(pb, f"FINISH_REASON_{result.finish_reason}"))
    generation = pb.Generation(message=result.message, finished=finished)
    yield MessageToDict(pb.GenerateOnceResponse(generation=generation))


def embed(client: eudai.Client, request: Request) -> Responses:
    """The vectors of texts."""
    vectors = client.embed(request["model"], request["inputs"])
    yield {"embeddings": [{"values": vector} for vector in vectors]}


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
    yield {"status": "SERVING" if client.health(request["service"]) else "NOT_SERVING"}


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


def arguments_from(request: Request) -> dict[str, Any]:
    """The arguments of `Client.generate` for a request. Has the fields that the scenarios use."""
    message = ParseDict(request, pb.GenerateRequest())
    arguments: dict[str, Any] = {
        "model": message.model,
        "prompt": message.prompt or list(message.conversation.messages),
        **fields_of(message.sampling),
    }
    if message.tools:
        arguments["tools"] = list[content_pb2.Tool](message.tools)
    if message.HasField("load"):
        arguments["load"] = fields_of(message.load)
    if message.expected_digest:
        arguments["expected_digest"] = message.expected_digest
    if message.events.HasField("heartbeat_interval"):
        interval = message.events.heartbeat_interval
        arguments["heartbeat_interval_s"] = interval.ToMilliseconds() / 1000
    return arguments


def fields_of(message: Any) -> dict[str, Any]:
    """The fields that are set."""
    return {field.name: value for field, value in message.ListFields()}


def described(error: eudai.EudaiError) -> dict[str, Any]:
    """The report of a failed call."""
    report: dict[str, Any] = {
        "code": grpc.StatusCode[error.code].value[0],
        "message": error.message,
        "reason": error.reason,
        "metadata": error.metadata,
        "violations": [
            {"field": each.field, "description": each.description} for each in error.violations
        ],
        "retry_after_s": error.retry_after_s,
    }
    if error.partial:
        report["output_sent"] = bool(error.partial.text)
        report["generation_id"] = error.partial.generation_id
    return report


def main() -> None:
    """Make the plan's call."""
    plan = json.load(sys.stdin)
    report: dict[str, Any] = {"responses": [], "left": False, "error": None}
    options = {CONNECTION[name]: plan[name] for name in CONNECTION.keys() & plan.keys()}
    with eudai.Client(sys.argv[2], timeout_s=plan["deadline_s"], **options) as client:
        try:
            with closing(METHODS[plan["call"]](client, plan["request"])) as responses:
                for response in responses:
                    report["responses"].append(response)
                    if len(report["responses"]) == plan.get("leave_after"):
                        report["left"] = True
                        break
        except eudai.EudaiError as error:
            report["error"] = described(error)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
