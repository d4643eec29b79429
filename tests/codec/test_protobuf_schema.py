"""JSON Schemas of protobuf messages: every value that matches parses into the message."""

import json
from typing import Any

import pytest
from descriptors import descriptor_set, message_class
from eudai.v1 import generation_service_pb2 as pb
from eudai_server.core.json_schema import Schema, compile_schema, fits, loads
from eudai_server.rpc.wire.protobuf_json import SHARED
from eudai_server.rpc.wire.protobuf_schema import ONEOF_CHOICES_MAX, schema_text_from
from google.protobuf import descriptor_pb2, json_format

ORDER = pb.ProtobufFormat(
    message_type="acme.v1.Order", file_descriptor_set=descriptor_set("order.proto")
)


def satisfies(answer: dict[str, Any]) -> bool:
    """Whether an answer matches the schema of ORDER."""
    return fits(compile_schema(loads(schema_text_from(ORDER))), json.dumps(answer))


ANSWER: dict[str, Any] = {
    "orderNumber": "-900719925474099",
    "customer": {"name": "Ada", "age": 36},
    "lines": [{"product": "tea", "quantity": -2, "price": "3.50"}],
    "labels": {"a": "b"},
    "state": "STATE_SHIPPED",
    "transfer": {"iban": "DE00"},
    "paid": True,
    "total": "7",
    "receipt": "aGVsbG8h",
    "orderedAt": "2026-11-30T23:59:59Z",
    "delivery": "90.5s",
    "rating": 5,
    "tree": {"name": "root", "children": [{"name": "leaf", "children": []}]},
}


def test_an_answer_that_matches_the_schema_parses() -> None:
    message = json_format.Parse(json.dumps(ANSWER), message_class("order.proto", "acme.v1.Order")())

    assert satisfies(ANSWER)
    assert (message.order_number, message.customer.name, message.lines[0].quantity) == (
        -900719925474099,
        "Ada",
        -2,
    )
    assert (message.WhichOneof("payment"), message.receipt, message.ordered_at.seconds) == (
        "transfer",
        b"hello!",
        1796083199,
    )
    assert message.tree.children[0].name == "leaf"


@pytest.mark.parametrize(
    "change",
    [
        {"card": "both members of a oneof"},
        {"orderNumber": "99999999999999999999"},
        {"orderNumber": 1.5},
        {"state": "STATE_NONE"},
        {"orderedAt": "2026-02-30T00:00:00Z"},
        {"rating": 2**31},
        {"total": "1e999"},
        {"receipt": "no base64"},
        {"unknown": 1},
        {"customer": None},
    ],
    ids=str,
)
def test_an_answer_that_does_not_parse_does_not_match(change: dict[str, Any]) -> None:
    assert not satisfies({**ANSWER, **change})


def test_only_optional_fields_may_be_left_out() -> None:
    assert satisfies({**ANSWER, "note": "x"})
    for name in ANSWER:
        without = {key: value for key, value in ANSWER.items() if key != name}
        assert satisfies(without) == (name == "transfer")


def test_properties_are_in_the_order_of_the_field_numbers() -> None:
    shapes = json.loads(schema_text_from(ORDER))["anyOf"]

    assert list(shapes[0]["properties"])[:3] == ["orderNumber", "customer", "lines"]


@pytest.mark.parametrize(
    ("message_type", "data", "reason"),
    [
        ("acme.v1.Order", b"\xff", "is not a serialized google.protobuf.FileDescriptorSet"),
        ("acme.v1.Nothing", ORDER.file_descriptor_set, "does not define"),
        ("", ORDER.file_descriptor_set, "does not define"),
        ("acme.v1.Order", b"", "does not define"),
        ("acme.v1.Keyed", ORDER.file_descriptor_set, "a map whose keys are not strings"),
        ("acme.v1.Order", b"x" * (1 << 20) + b"x", "must not be longer"),
    ],
)
def test_an_unsupported_message_is_refused_with_a_reason(
    message_type: str, data: bytes, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        schema_text_from(pb.ProtobufFormat(message_type=message_type, file_descriptor_set=data))


def test_a_descriptor_set_without_its_imports_is_refused() -> None:
    bare = descriptor_set("order.proto", imports=False)
    with pytest.raises(ValueError, match="include every import"):
        schema_text_from(pb.ProtobufFormat(message_type="acme.v1.Order", file_descriptor_set=bare))


def test_too_many_combinations_of_oneofs_are_refused() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", syntax="proto3")
    message = file.message_type.add(name="X")
    for index in range(ONEOF_CHOICES_MAX):
        message.oneof_decl.add(name=f"o{index}")
        message.field.add(name=f"f{index}", number=index + 1, type=9, label=1, oneof_index=index)
    data = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    with pytest.raises(ValueError, match="combine in more than"):
        schema_text_from(pb.ProtobufFormat(message_type="X", file_descriptor_set=data))


def mesh(types: int, fields: int, oneofs: int = 0, enum_values: int = 0) -> pb.ProtobufFormat:
    """Message types whose fields contain each other, oneofs of one member, and an enum."""
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", syntax="proto3")
    for index in range(types):
        message = file.message_type.add(name=f"M{index}")
        for number in range(1, fields + 1):
            target = f".M{(index + number) % types}"
            message.field.add(name=f"f{number}", number=number, type=11, label=1, type_name=target)
        for oneof in range(oneofs):
            message.oneof_decl.add(name=f"o{oneof}")
            number = fields + oneof + 1
            message.field.add(name=f"f{number}", number=number, type=9, label=1, oneof_index=oneof)
    if enum_values:
        enum = file.enum_type.add(name="E")
        for value in range(enum_values):
            enum.value.add(name=f"V{value}", number=value)
        number = fields + oneofs + 1
        file.message_type[0].field.add(name="e", number=number, type=14, label=1, type_name=".E")
    data = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    return pb.ProtobufFormat(message_type="M0", file_descriptor_set=data)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (mesh(30, 150), "must not have more than 20000 fields"),
        (mesh(30, 34), "must not have more than 1000 fields"),
        (mesh(1, 300, oneofs=6), "must not have more than 1000 fields"),
        (mesh(201, 1), "more than 200 message types"),
        (mesh(1, 1, enum_values=2001), "must not have more than 2000 values"),
    ],
    ids=["descriptor", "fields", "choices", "types", "enum values"],
)
def test_limits_are_checked_before_a_schema_is_built(shape: pb.ProtobufFormat, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        schema_text_from(shape)


@pytest.mark.parametrize(
    "shape", [mesh(30, 33), mesh(200, 5), mesh(2, 10, oneofs=4, enum_values=2000)]
)
def test_an_accepted_message_gives_a_schema_within_the_limits(shape: pb.ProtobufFormat) -> None:
    schema = Schema(schema_text_from(shape))

    assert fits(compile_schema(schema.value), "[]") is False


def test_recursive_messages_may_be_left_out() -> None:
    root = loads(schema_text_from(mesh(3, 2)))

    assert root["required"] == []


def test_a_pattern_of_many_fields_is_compiled_once() -> None:
    text = schema_text_from(ORDER)

    assert text.count('"pattern"') == len(set(loads(text)["$defs"]) & set(SHARED))
