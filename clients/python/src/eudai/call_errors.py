"""Converts the failure of a gRPC call to an exception of this package."""

import re
from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from eudai.errors import EudaiError, Violation
from eudai.reason_errors import class_of
from eudai.results import Result

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "eudai"

# What a failed connection means, by what gRPC says about it.
_CAUSES = (
    (re.compile(r"http1\.x server"), "it speaks HTTP/1.1, not gRPC"),
    (re.compile(r"CERTIFICATE_VERIFY_FAILED: ([^:]+)"), r"its certificate is not valid: \1"),
    (re.compile(r"WRONG_VERSION_NUMBER"), "it does not use TLS"),
    (re.compile(r"DNS resolution failed"), "the name of the host cannot be resolved"),
    (re.compile(r"remote host: (.+)"), r"\1"),
    (re.compile(r"Socket closed|reset by peer"), "the connection was closed"),
)


def error_from(failure: grpc.RpcError, address: str, partial: Result | None = None) -> EudaiError:
    """The exception for a failed call to the server at `address`."""
    # Every failure of a call is also a grpc.Call, which the annotations do not say.
    call: Any = failure
    code = call.code().name
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    has_info, _, has_retry = _unpack(call.trailing_metadata() or (), info, bad_request, retry)
    reason = info.reason if has_info and info.domain == DOMAIN else ""
    return class_of(reason, code)(
        _message(code, call.details() or "", reason, address),
        code=code,
        reason=reason,
        retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9 if has_retry else None,
        violations=[
            Violation(each.field, each.description) for each in bad_request.field_violations
        ],
        metadata=info.metadata,
        partial=partial,
    )


def _unpack(trailers: Iterable[tuple[str, str | bytes]], *targets: Message) -> list[bool]:
    """Fill each target from the details of the status; returns which of them were present."""
    present = [False] * len(targets)
    for key, value in trailers:
        if key != DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            details = status_pb2.Status.FromString(value).details
            for index, target in enumerate(targets):
                present[index] = any(detail.Unpack(target) for detail in details)
        except DecodeError:  # a proxy may have cut the details
            pass
    return present


def _cause_of(details: str) -> str:
    for pattern, cause in _CAUSES:
        if match := pattern.search(details):
            return match.expand(cause)
    return details


def _message(code: str, details: str, reason: str, address: str) -> str:
    """The server's own message, or for a failure that gRPC itself reports, what it means."""
    if reason:
        return details
    match code:
        case "UNAVAILABLE":
            return f"the server at {address} cannot be reached: {_cause_of(details)}"
        case "DEADLINE_EXCEEDED":
            return "the call took longer than its timeout; allow it more time"
        case "UNIMPLEMENTED":
            return f"the server at {address} does not have this method: {details}"
        case _:
            return details or code
