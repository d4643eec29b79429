"""The table of reasons and codes: the contract, the code and the table agree."""

from pathlib import Path

import pytest
from eudai.v1 import error_pb2, generation_service_pb2 as pb
from eudai_server.core import events as heart, generation
from eudai_server.core.errors import (
    InvalidRequestError,
    ModelNotFoundError,
    Reason,
    ServiceError,
    Violation,
)
from eudai_server.rpc.wire.status import CODES, status_from, trailers_from
from google.rpc import error_details_pb2
from hypothesis import example, given, strategies as st

PREFIX = "ERROR_REASON_"
DETAILS_BYTES_MAX = 4096


def test_the_reasons_equal_those_of_the_contract() -> None:
    proto = {name.removeprefix(PREFIX) for name, _ in error_pb2.ErrorReason.items()}
    proto.remove("UNSPECIFIED")

    assert set(Reason) == proto
    assert set(CODES) == set(Reason)


def test_each_code_matches_the_comment_in_the_contract() -> None:
    text = (Path(__file__).parents[2] / "proto/eudai/v1/error.proto").read_text()
    for reason, code in CODES.items():
        comment = text[: text.index(f"{PREFIX}{reason} =")].rpartition(";")[2]

        assert f"// {code.name}" in comment, reason


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (heart.Phase, pb.GenerationPhase, "GENERATION_PHASE_"),
        (heart.FinishReason, pb.FinishReason, "FINISH_REASON_"),
        (heart.GenerationWarningCode, pb.GenerationWarningCode, "GENERATION_WARNING_CODE_"),
        (generation.ReasoningEffort, pb.ReasoningEffort, "REASONING_EFFORT_"),
    ],
)
def test_the_enums_equal_those_of_the_contract(
    ours: type[heart.Phase], theirs: "type[pb.GenerationPhase]", prefix: str
) -> None:
    assert {f"{prefix}{name}" for name in ours} | {f"{prefix}UNSPECIFIED"} == set(theirs.keys())


def test_the_longest_details_stay_under_four_kibibytes() -> None:
    worst = [
        InvalidRequestError([Violation("f" * 500, "d" * 500)] * 1000),
        ModelNotFoundError("m" * 512),
        ServiceError(Reason.QUEUE_FULL, "m" * 5000, metadata={"a": "b" * 5000}, retry_after_s=1.5),
    ]
    failure = error_pb2.GenerationFailure(
        generation_id="0" * 32, phase=pb.GENERATION_PHASE_GENERATING, output_sent=True
    )

    assert all(
        len(status_from(error, failure).SerializeToString()) < DETAILS_BYTES_MAX for error in worst
    )


TEXT = st.text(st.characters(codec="utf-8"), max_size=600)


@example([Violation("漢" * 600, "漢" * 600)] * 40, "漢" * 600, {"漢" * 600: "漢" * 600}, 20)
@given(
    violations=st.lists(st.builds(Violation, TEXT, TEXT), min_size=1, max_size=40),
    message=TEXT,
    metadata=st.dictionaries(TEXT, TEXT, max_size=20),
    stretch=st.integers(1, 20),
)
def test_details_stay_under_four_kibibytes_for_any_request(
    violations: list[Violation], message: str, metadata: dict[str, str], stretch: int
) -> None:
    longer = [Violation(one.field * stretch, one.description * stretch) for one in violations]
    failure = error_pb2.GenerationFailure(
        generation_id="0" * 32, phase=pb.GENERATION_PHASE_GENERATING, output_sent=True
    )
    for error in (
        InvalidRequestError(longer),
        ModelNotFoundError(message * stretch),
        ServiceError(Reason.QUEUE_FULL, message * stretch, metadata=metadata, retry_after_s=1.5),
    ):
        status = status_from(error, failure)
        raw = status.SerializeToString()

        assert len(raw) < DETAILS_BYTES_MAX
        assert status.details[0].TypeName() == "google.rpc.ErrorInfo"
        assert status.details[-1].TypeName() == "eudai.v1.GenerationFailure"


def test_the_first_violation_is_always_sent_and_cut_between_characters() -> None:
    status = status_from(InvalidRequestError([Violation("é" * 500, "漢" * 500)] * 100))
    assert len(status.SerializeToString()) < DETAILS_BYTES_MAX
    bad_request = error_details_pb2.BadRequest()
    status.details[1].Unpack(bad_request)
    first, *_, last = bad_request.field_violations

    assert first.field.rstrip("…").strip("é") == ""
    assert first.description.rstrip("…").strip("漢") == ""
    assert last.description.endswith("more violations")


def test_only_calls_that_never_ran_may_be_retried() -> None:
    ran = ServiceError(Reason.BACKEND_STALLED, "x")
    never_ran = ServiceError(Reason.QUEUE_FULL, "x", retry_after_s=0.25)

    assert dict(trailers_from(ran, status_from(ran)))["grpc-retry-pushback-ms"] == "-1"
    assert dict(trailers_from(never_ran, status_from(never_ran)))["grpc-retry-pushback-ms"] == "250"
