"""The rules of failures."""

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from eudai.conformance.calls import UNKNOWN, Failure, Subject
from eudai.conformance.rules import require, rule
from eudai.v1 import (
    embedding_service_pb2 as embedding_pb,
    generation_service_pb2 as pb,
    model_service_pb2 as model_pb,
    options_pb2,
)

DETAILS_BYTES_MAX = 4096
OTHER_DIGEST = "sha256:" + "0" * 64


def _refused(subject: Subject) -> Iterator[tuple[str, Failure]]:
    """Calls that must fail: the reason of each, and the failure."""
    generate = subject.generation.Generate
    once = pb.GenerateOnceRequest
    unknown = subject.request(model=UNKNOWN)
    digest = subject.request(expected_digest=OTHER_DIGEST)
    calls: list[tuple[str, Any, Message]] = [
        ("INVALID_REQUEST", generate, pb.GenerateRequest()),
        ("INVALID_REQUEST", subject.generation.GenerateOnce, once(request=pb.GenerateRequest())),
        ("MODEL_NOT_FOUND", generate, unknown),
        ("MODEL_NOT_FOUND", subject.generation.GenerateOnce, once(request=unknown)),
        (
            "MODEL_NOT_FOUND",
            subject.embedding.Embed,
            embedding_pb.EmbedRequest(model=UNKNOWN, inputs=["x"]),
        ),
        ("MODEL_NOT_FOUND", subject.models.GetModel, model_pb.GetModelRequest(model=UNKNOWN)),
        ("DIGEST_MISMATCH", generate, digest),
        ("DIGEST_MISMATCH", subject.generation.GenerateOnce, once(request=digest)),
    ]
    for reason, method, request in calls:
        yield reason, subject.failure(method, request)


@rule
def failures_have_details(subject: Subject) -> None:
    """The details of each failure repeat its status, start with an ErrorInfo, and are small."""
    for reason, failure in _refused(subject):
        status = failure.status
        require(status.details, f"{reason}: no details")
        require(status.code == failure.code.value[0], f"{reason}: the details have another code")
        require(status.message == failure.message, f"{reason}: the details have another message")
        info = error_details_pb2.ErrorInfo()
        require(status.details[0].Unpack(info), f"{reason}: the first detail is no ErrorInfo")
        require(info.domain == "eudai", f"{reason}: the domain is {info.domain!r}")
        require(status.ByteSize() < DETAILS_BYTES_MAX, f"{reason}: the details are too large")


@rule
def failures_have_their_code(subject: Subject) -> None:
    """Each failure has the reason that the contract names for it, and the code of that reason."""
    codes = {
        "INVALID_REQUEST": grpc.StatusCode.INVALID_ARGUMENT,
        "MODEL_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
        "DIGEST_MISMATCH": grpc.StatusCode.FAILED_PRECONDITION,
    }
    for reason, failure in _refused(subject):
        require(failure.reason == reason, f"the reason is {failure.reason!r}, not {reason}")
        require(failure.code is codes[reason], f"{reason} has the code {failure.code.name}")


@rule
def failures_forbid_retries(subject: Subject) -> None:
    """The pushback of a failure that a repetition cannot cure is -1."""
    for reason, failure in _refused(subject):
        pushback = failure.trailing.get("grpc-retry-pushback-ms")
        require(pushback == "-1", f"{reason}: grpc-retry-pushback-ms is {pushback!r}")


@rule
def invalid_fields_named(subject: Subject) -> None:
    """An invalid request fails with INVALID_REQUEST, and the violations name its fields."""
    hot = options_pb2.SamplingOptions(temperature=9)
    other = ("eudai-model", UNKNOWN)
    cases: list[tuple[pb.GenerateRequest, list[str], list[tuple[str, str]]]] = [
        (pb.GenerateRequest(), ["model", "input"], []),
        (
            pb.GenerateRequest(model=subject.model, prompt="x", sampling=hot),
            ["sampling.temperature"],
            [],
        ),
        (subject.request(), ["model"], [other]),
    ]
    for request, fields, metadata in cases:
        failure = subject.failure(subject.generation.Generate, request, *metadata)
        require(failure.reason == "INVALID_REQUEST", f"{fields}: the reason is {failure.reason!r}")
        require(set(fields) <= set(failure.fields), f"{fields} expected, {failure.fields} named")
