"""Maps each ServiceError to a gRPC status code and details, in one table.

A caller learns nothing else about a failure.
"""

from collections.abc import Mapping, Sequence

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from eudai_server.core.errors import (
    VIOLATIONS_MAX,
    ModelNotFoundError,
    Reason,
    ServiceError,
    Violation,
)
from eudai_server.rpc.wire.values import NANOS, duration_from

DOMAIN = "eudai"
# All details together stay below 4 KiB for any request, because a client may see another status if
# metadata exceeds 8 KiB. The limits are in bytes of UTF-8, and their worst case fits.
FIELD_BYTES_MAX = 64
TEXT_BYTES_MAX = 120
STATUS_MESSAGE_BYTES_MAX = 512
NAME_BYTES_MAX = 512
BAD_REQUEST_BYTES_MAX = 2560
# The size of one violation, or of the entry that says that there are more.
ENTRY_BYTES_MAX = FIELD_BYTES_MAX + TEXT_BYTES_MAX + 16
METADATA_MAX = 5
ELLIPSIS = "…"

CODES: Mapping[Reason, grpc.StatusCode] = {
    Reason.INVALID_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.CONTEXT_LENGTH_EXCEEDED: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.MODEL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.CAPABILITY_UNSUPPORTED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.DIGEST_MISMATCH: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.LOAD_OPTIONS_FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    Reason.QUEUE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.INSUFFICIENT_MEMORY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.BACKEND_UNREACHABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.BACKEND_STREAM_INTERRUPTED: grpc.StatusCode.UNAVAILABLE,
    Reason.BACKEND_FAILURE: grpc.StatusCode.INTERNAL,
    Reason.BACKEND_STALLED: grpc.StatusCode.UNAVAILABLE,
    Reason.DRAINING: grpc.StatusCode.UNAVAILABLE,
    Reason.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Reason.SCOPE_MISSING: grpc.StatusCode.PERMISSION_DENIED,
    Reason.ADMIN_DISABLED: grpc.StatusCode.PERMISSION_DENIED,
    Reason.MODEL_FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    Reason.BACKEND_UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
    Reason.QUOTA_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.DEADLINE_TOO_SHORT: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.REGISTRY_FAILURE: grpc.StatusCode.UNAVAILABLE,
    Reason.CLOUD_DISABLED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.REGISTRY_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Reason.BLOB_NOT_FOUND: grpc.StatusCode.FAILED_PRECONDITION,
    # Neither the service nor its backend is at fault, and the same call may succeed; only the
    # caller can decide whether to retry.
    Reason.TOOL_CALL_MALFORMED: grpc.StatusCode.ABORTED,
    Reason.REPETITION_STOPPED: grpc.StatusCode.ABORTED,
    Reason.PULL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.PULL_CANCELLED: grpc.StatusCode.ABORTED,
}


def status_from(error: ServiceError, failure: Message | None = None) -> status_pb2.Status:
    """The whole status. `failure` is the eudai.v1.GenerationFailure, if output was sent."""
    status = status_pb2.Status(
        code=CODES[error.reason].value[0], message=_cut(error.message, STATUS_MESSAGE_BYTES_MAX)
    )
    details: list[Message] = [_info(error), *_help(error)]
    if error.retry_after_s is not None:
        details.append(
            error_details_pb2.RetryInfo(retry_delay=duration_from(int(error.retry_after_s * NANOS)))
        )
    if failure is not None:
        details.append(failure)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def trailers_from(
    error: ServiceError, status: status_pb2.Status
) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata of a failure: its details, and the retry pushback in ms (-1: never)."""
    may_repeat = error.retry_after_s is not None and not error.may_have_run
    pushback_ms = int((error.retry_after_s or 0) * 1000) if may_repeat else -1
    return (
        ("grpc-status-details-bin", status.SerializeToString()),
        ("grpc-retry-pushback-ms", str(pushback_ms)),
    )


def _info(error: ServiceError) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(
        reason=error.reason,
        domain=DOMAIN,
        metadata={
            _cut(key, FIELD_BYTES_MAX): _cut(text)
            for key, text in list(error.metadata.items())[:METADATA_MAX]
        },
    )


def _help(error: ServiceError) -> list[Message]:
    """The error details that help the caller to correct the request."""
    if error.violations:
        return [_bad_request(error.violations)]
    if isinstance(error, ModelNotFoundError):
        link = error_details_pb2.Help.Link(
            description=f"Pull it: ollama pull {_cut(error.model)}, "
            "or eudai.v1.ModelService/PullModel",
            url="https://ollama.com/library",
        )
        return [
            error_details_pb2.ResourceInfo(
                resource_type="eudai.v1.Model",
                resource_name=_cut(error.model, NAME_BYTES_MAX),
                description="the model does not exist in Ollama",
            ),
            error_details_pb2.Help(links=[link]),
        ]
    if error.reason in (Reason.QUEUE_FULL, Reason.QUOTA_EXCEEDED):
        subject = "queue" if error.reason is Reason.QUEUE_FULL else "caller"
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=subject, description=_cut(error.message)
        )
        return [error_details_pb2.QuotaFailure(violations=[violation])]
    return []


def _bad_request(violations: Sequence[Violation]) -> error_details_pb2.BadRequest:
    """The first violations, as many as fit, and whether there are more."""
    shown = error_details_pb2.BadRequest()
    for count, violation in enumerate(violations):
        if count == VIOLATIONS_MAX or shown.ByteSize() > BAD_REQUEST_BYTES_MAX - ENTRY_BYTES_MAX:
            shown.field_violations.add(description="there are more violations")
            break
        shown.field_violations.add(
            field=_cut(violation.field, FIELD_BYTES_MAX), description=_cut(violation.description)
        )
    return shown


def _cut(text: str, bytes_max: int = TEXT_BYTES_MAX) -> str:
    """Cut a text to at most `bytes_max` bytes of UTF-8, between two characters."""
    data = text.encode()
    if len(data) <= bytes_max:
        return text
    return data[: bytes_max - len(ELLIPSIS.encode())].decode(errors="ignore") + ELLIPSIS
