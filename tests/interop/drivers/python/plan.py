"""What the drivers of both Python clients share: arguments from a plan, and the report.

tests/interop/driver.py describes the plan and the report.
"""

from typing import Any

import eudai
import grpc
from eudai.v1 import content_pb2, generation_service_pb2 as pb
from google.protobuf.json_format import MessageToDict, ParseDict

# The names of the plan, and those of the client.
CONNECTION = {
    "ca_file": "ca_file",
    "cert_file": "certificate_file",
    "key_file": "key_file",
    "token_file": "token_file",
}
Request = dict[str, Any]
Response = dict[str, Any]


def connection_options(plan: dict[str, Any]) -> dict[str, Any]:
    """The options of the client."""
    options = {CONNECTION[name]: plan[name] for name in CONNECTION.keys() & plan.keys()}
    return {**options, "timeout_s": plan["deadline_s"]}


def generate_arguments(request: Request) -> dict[str, Any]:
    """The arguments of `generate` for a request. Has the fields that the scenarios use."""
    message = ParseDict(request, pb.GenerateRequest())
    arguments: dict[str, Any] = {
        "model": message.model,
        "prompt": message.prompt or list(message.conversation.messages),
        **set_fields(message.sampling),
    }
    if message.tools:
        arguments["tools"] = list[content_pb2.Tool](message.tools)
    if message.HasField("load"):
        arguments["load"] = set_fields(message.load)
    if message.expected_digest:
        arguments["expected_digest"] = message.expected_digest
    if message.events.HasField("heartbeat_interval"):
        interval = message.events.heartbeat_interval
        arguments["heartbeat_interval_s"] = interval.ToMilliseconds() / 1000
    return arguments


def set_fields(message: Any) -> dict[str, Any]:
    """The fields that are set."""
    return {field.name: value for field, value in message.ListFields()}


def generation_response(result: eudai.Result) -> Response:
    """The response of GenerateOnce, from the client's result."""
    finished = pb.Finished(reason=getattr(pb, f"FINISH_REASON_{result.finish_reason}"))
    generation = pb.Generation(message=result.message, finished=finished)
    return MessageToDict(pb.GenerateOnceResponse(generation=generation))


def embed_response(vectors: list[list[float]]) -> Response:
    """A response of Embed, with all vectors."""
    return {"embeddings": [{"values": vector} for vector in vectors]}


def health_response(*, is_serving: bool) -> Response:
    """The response of a health check."""
    return {"status": "SERVING" if is_serving else "NOT_SERVING"}


def error_report(error: eudai.EudaiError) -> dict[str, Any]:
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


class Report:
    """What a client has seen of the call."""

    def __init__(self, leave_after: int | None) -> None:
        """The client leaves after this number of responses."""
        self._leave_after = leave_after
        self.fields: dict[str, Any] = {"responses": [], "left": False, "error": None}

    def add(self, response: Response) -> bool:
        """Add a response; returns whether the client leaves now."""
        self.fields["responses"].append(response)
        self.fields["left"] = len(self.fields["responses"]) == self._leave_after
        return bool(self.fields["left"])

    def fail(self, error: eudai.EudaiError) -> None:
        """Add the error of the call."""
        self.fields["error"] = error_report(error)
