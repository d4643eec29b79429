"""Counting the fields of a message before it is parsed: the same as the parser, up to a limit."""

import time
from typing import Any

import pytest
from eudai.v1 import embedding_service_pb2, generation_service_pb2 as pb
from eudai_server.core.errors import InvalidRequestError
from eudai_server.rpc.wire.field_count import has_more_fields
from eudai_server.rpc.wire.parsing import FIELDS_MAX, SMALL_REQUEST_BYTES_MAX, parse
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from hypothesis import example, given, strategies as st

REQUEST = pb.GenerateRequest.DESCRIPTOR
# An unknown group. Its content would be a malformed conversation outside of it.
GROUP = b"\xa3\x06" + b"\x1a\x02\xff\xff" + b"\xa4\x06"
EMPTY_MESSAGE = b"\x0a\x00"


def conversation(content: bytes) -> bytes:
    """A request whose conversation consists of these bytes."""
    length, rest = b"", len(content)
    while rest > 0x7F:
        length, rest = length + bytes([rest & 0x7F | 0x80]), rest >> 7
    return b"\x1a" + length + bytes([rest]) + content


def count_parsed(message: Any) -> int:
    """Count the fields of a parsed message that has no unknown and no packed fields."""
    count = 0
    for field, value in message.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            # An entry, its key, and its value, which is written even if it is empty.
            count += 3 * len(value)
        elif field.message_type:
            values = value if field.is_repeated else [value]
            count += sum(1 + count_parsed(child) for child in values)
        else:
            count += len(value) if field.is_repeated else 1
    return count


make_request: Any = pb.GenerateRequest
requests = st.builds(
    lambda texts, names, labels: make_request(
        model="m",
        conversation={"messages": [{"role": 2, "parts": [{"text": t} for t in texts]}] * 2},
        tools=[{"name": name} for name in names],
        stop={"sequences": texts, "max_output_tokens": 300},
        sampling={"temperature": 1.5, "seed": 7},
        labels=labels,
    ),
    st.lists(st.text(max_size=200), max_size=5),
    st.lists(st.text(min_size=1), max_size=5),
    st.dictionaries(st.text(), st.text(), max_size=3),
)


@given(requests)
def test_the_count_equals_that_of_the_parsed_message(request: pb.GenerateRequest) -> None:
    data = request.SerializeToString()
    count = count_parsed(request)

    assert not has_more_fields(REQUEST, data, count)
    # Messages of less than two bytes for each field are not counted.
    assert has_more_fields(REQUEST, data, count - 1) == (len(data) > 2 * (count - 1))


@given(st.binary(max_size=300), st.integers(0, 20))
@example(b"\x80" * 300, 3)
@example(b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + b"\x0a" * 100, 3)
def test_malformed_bytes_are_left_to_the_parser(data: bytes, fields_max: int) -> None:
    has_more = has_more_fields(REQUEST, data, fields_max)
    try:
        request = pb.GenerateRequest.FromString(data)
    except DecodeError:
        return

    assert has_more or count_parsed(request) <= fields_max or len(data) <= 2 * fields_max


def test_fields_after_a_group_are_counted() -> None:
    data = GROUP + conversation(EMPTY_MESSAGE * 100_000)

    assert len(pb.GenerateRequest.FromString(data).conversation.messages) == 100_000
    assert has_more_fields(REQUEST, data, 20_000)


def test_counting_stops_at_the_limit() -> None:
    data = conversation(EMPTY_MESSAGE * 4_000_000)
    begin_s = time.process_time()
    assert has_more_fields(REQUEST, data, FIELDS_MAX)

    assert time.process_time() - begin_s < 0.1  # CPU time; 5 ms on an idle machine


def test_a_nested_file_descriptor_is_counted() -> None:
    message = descriptor_pb2.DescriptorProto(name="X")
    file = descriptor_pb2.FileDescriptorProto(message_type=[message] * 1000)
    data = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()

    assert has_more_fields(descriptor_pb2.FileDescriptorSet.DESCRIPTOR, data, 2000)
    assert not has_more_fields(descriptor_pb2.FileDescriptorSet.DESCRIPTOR, data, 2001)


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        (pb.GenerateRequest, conversation(EMPTY_MESSAGE * 20_001), "must not have more than 20000"),
        (pb.GenerateRequest, b"\x12\xff", "is not a valid eudai.v1.GenerateRequest"),
        (pb.GenerateRequest, bytes((8 << 20) + 1), "must not be longer than 8388608 bytes"),
        (embedding_service_pb2.EmbedRequest, b"\x12\x00" * 20_001, "must not have more than"),
        (
            descriptor_pb2.FileDescriptorSet,
            bytes(SMALL_REQUEST_BYTES_MAX + 1),
            "must not be longer",
        ),
    ],
)
def test_a_request_over_a_limit_is_refused_with_the_limit(
    kind: Any, data: bytes, reason: str
) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        parse(kind, data)
