"""The driver of the Python stubs: makes one call and prints what it saw.

tests/interop/driver.py describes the plan and the report.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from eudai import CHANNEL_OPTIONS
from eudai.v1 import (
    embedding_service_pb2,
    error_pb2,
    generation_service_pb2,
    model_service_pb2,
    server_service_pb2,
)
from google.protobuf import json_format, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2

SERVICES = {
    service.full_name: service
    for module in (
        embedding_service_pb2,
        generation_service_pb2,
        health_pb2,
        model_service_pb2,
        server_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
}


def channel_for(address: str, plan: dict[str, str]) -> grpc.Channel:
    """A channel with the plan's encryption."""
    if "ca_file" not in plan:
        return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        Path(plan["ca_file"]).read_bytes(),
        Path(plan["key_file"]).read_bytes() if "key_file" in plan else None,
        Path(plan["cert_file"]).read_bytes() if "cert_file" in plan else None,
    )
    return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def start(channel: grpc.Channel, plan: dict[str, Any]) -> Any:
    """Start the plan's call; returns an iterator that can be cancelled."""
    service, _, name = plan["call"].partition("/")
    method = SERVICES[service].methods_by_name[name]
    request_type = message_factory.GetMessageClass(method.input_type)
    response_type = message_factory.GetMessageClass(method.output_type)
    metadata: list[tuple[str, str | bytes]] = []
    if "token_file" in plan:
        metadata.append(("authorization", f"Bearer {Path(plan['token_file']).read_text()}"))
    # A method with one response looks the same on the wire.
    return channel.unary_stream(
        f"/{plan['call']}", request_type.SerializeToString, response_type.FromString
    )(
        json_format.ParseDict(plan["request"], request_type()),
        timeout=plan["deadline_s"],
        metadata=tuple(metadata),
    )


def details_of(failure: Any) -> Iterator[Message]:
    """The unpacked details of a failed call."""
    for key, value in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                name = packed.TypeName().rpartition(".")[2]
                module = error_pb2 if packed.TypeName().startswith("eudai") else error_details_pb2
                detail: Message = getattr(module, name)()
                packed.Unpack(detail)
                yield detail


def described(failure: Any) -> dict[str, Any]:
    """The report of a failed call."""
    report: dict[str, Any] = {"code": failure.code().value[0], "message": failure.details()}
    for detail in details_of(failure):
        match detail:
            case error_details_pb2.ErrorInfo():
                report |= {"reason": detail.reason, "metadata": dict(detail.metadata)}
            case error_details_pb2.BadRequest():
                report["violations"] = [
                    {"field": one.field, "description": one.description}
                    for one in detail.field_violations
                ]
            case error_details_pb2.RetryInfo():
                report["retry_after_s"] = detail.retry_delay.ToMilliseconds() / 1000
            case error_pb2.GenerationFailure():
                report |= {
                    "output_sent": detail.output_sent,
                    "generation_id": detail.generation_id,
                }
    return report


def main() -> None:
    """Make the plan's call."""
    plan = json.load(sys.stdin)
    report: dict[str, Any] = {"responses": [], "left": False, "error": None}
    with channel_for(sys.argv[2], plan) as channel:
        call = start(channel, plan)
        try:
            for response in call:
                report["responses"].append(json_format.MessageToDict(response))
                if len(report["responses"]) == plan.get("leave_after"):
                    report["left"] = True
                    call.cancel()
                    break
        except grpc.RpcError as failure:
            report["error"] = described(failure)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
