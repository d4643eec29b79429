"""The driver of the Python client: makes one call and prints what it saw.

tests/interop/driver.py describes the plan and the report.
"""

import json
import sys
from collections.abc import Callable, Generator
from typing import Any

import eudai
import grpc
from eudai.v1 import generation_service_pb2 as pb, model_service_pb2 as model_pb
from google.protobuf import json_format
from google.protobuf.message import Message

Responses = Generator[Message | dict[str, Any], None, None]
CALLS: dict[str, Callable[[eudai.Client, Any, float], Responses]] = {}


def call(function: Callable[[eudai.Client, Any, float], Responses]) -> Any:
    """Add a function that makes the call of a method, and yields the responses."""
    CALLS[function.__name__] = function
    return function


@call
def Generate(client: eudai.Client, request: Any, timeout_s: float) -> Responses:
    """Stream a generation."""
    options = options_of(json_format.ParseDict(request, pb.GenerateRequest()))
    with client.generate(**options, timeout_s=timeout_s) as stream:
        yield from stream.events


@call
def GenerateOnce(client: eudai.Client, request: Any, timeout_s: float) -> Responses:
    """Generate at once; the result as the message that it was made of."""
    options = options_of(json_format.ParseDict(request["request"], pb.GenerateRequest()))
    result = client.generate_once(**options, timeout_s=timeout_s)
    message = {"parts": [{"text": result.text}]}
    finished = {"reason": f"FINISH_REASON_{result.finish_reason}"}
    yield {"generation": {"message": message, "finished": finished}}


@call
def Embed(client: eudai.Client, request: Any, timeout_s: float) -> Responses:
    """Embed texts."""
    vectors = client.embed(request["model"], request["inputs"], timeout_s=timeout_s)
    yield {"embeddings": [{"values": vector} for vector in vectors]}


@call
def Check(client: eudai.Client, request: Any, timeout_s: float) -> Responses:
    """Check the health of a name."""
    ready = client.health(request["service"], timeout_s=timeout_s)
    yield {"status": "SERVING" if ready else "NOT_SERVING"}


@call
def PullModel(client: eudai.Client, request: Any, timeout_s: float) -> Responses:
    """Pull a model."""
    with client.pull(request["model"], timeout_s=timeout_s) as pull:
        for progress in pull:
            yield model_pb.PullModelResponse(progress=progress)
    yield model_pb.PullModelResponse(completed=pull.model)


@call
def CreateModel(client: eudai.Client, request: Any, timeout_s: float) -> Responses:
    """Create a model."""
    message = json_format.ParseDict(request, model_pb.CreateModelRequest())
    yield client.create(message, timeout_s=timeout_s).wait()


@call
def CancelPull(client: eudai.Client, request: Any, timeout_s: float) -> Responses:
    """Cancel a pull."""
    client.cancel_pull(request["model"], timeout_s=timeout_s)
    yield {}


@call
def DeleteModel(client: eudai.Client, request: Any, timeout_s: float) -> Responses:
    """Delete a model."""
    client.delete(request["model"], timeout_s=timeout_s)
    yield {}


def options_of(request: pb.GenerateRequest) -> dict[str, Any]:
    """The arguments of the client for a request, as far as the scenarios need them."""
    options: dict[str, Any] = {
        "model": request.model,
        "prompt": list(request.conversation.messages) or request.prompt,
        "tools": list(request.tools),
    }
    if request.sampling.HasField("temperature"):
        options["temperature"] = request.sampling.temperature
    if request.expected_digest:
        options["expected_digest"] = request.expected_digest
    if request.load.HasField("context_length"):
        options["load"] = {"context_length": request.load.context_length}
    if request.events.HasField("heartbeat_interval"):
        options["heartbeat_interval_s"] = request.events.heartbeat_interval.ToMilliseconds() / 1000
    return options


def described(error: eudai.EudaiError) -> dict[str, Any]:
    """The report of a failed call."""
    partial = error.partial or eudai.Result()
    return {
        "code": grpc.StatusCode[error.code].value[0],
        "reason": error.reason,
        "message": error.message,
        "metadata": error.metadata,
        "violations": [vars(violation) for violation in error.violations],
        "retry_after_s": error.retry_after_s,
        "output_sent": bool(partial.text),
        "generation_id": partial.generation_id,
    }


def main() -> None:
    """Make the plan's call."""
    plan = json.load(sys.stdin)
    report: dict[str, Any] = {"responses": [], "left": False, "error": None}
    files = {"ca_file": "ca_file", "certificate_file": "cert_file", "key_file": "key_file"}
    files["token_file"] = "token_file"  # noqa: S105 - the name of an option
    options: Any = {name: plan[key] for name, key in files.items() if key in plan}
    method = CALLS[plan["call"].partition("/")[2]]
    with eudai.Client(sys.argv[2], **options) as client:
        responses = method(client, plan["request"], plan["deadline_s"])
        try:
            for response in responses:
                if isinstance(response, Message):
                    response = json_format.MessageToDict(response)  # noqa: PLW2901
                report["responses"].append(response)
                if len(report["responses"]) == plan.get("leave_after"):
                    report["left"] = True
                    break
        except eudai.EudaiError as error:
            report["error"] = described(error)
        finally:
            responses.close()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
