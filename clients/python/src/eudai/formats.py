"""Output formats from Python types, and answers parsed as them."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message

from eudai.errors import ParseError
from eudai.results import Result
from eudai.v1 import generation_service_pb2 as pb

T = TypeVar("T")


# "json", a JSON Schema, a pydantic model, a protobuf message class, or an OutputFormat.
Format = str | Mapping[str, Any] | type | pb.OutputFormat


def format_from(source: Format) -> pb.OutputFormat:
    """The output format that makes the model answer with a value of a type.

    >>> eudai.format_from(Point).WhichOneof("shape")
    'json_schema'
    >>> eudai.format_from("json").WhichOneof("shape")
    'any_json'
    """
    if isinstance(source, pb.OutputFormat):
        return source
    if source == "json":
        return pb.OutputFormat(any_json=pb.AnyJsonFormat())
    if isinstance(source, Mapping):
        return pb.OutputFormat(json_schema=json.dumps(source))
    if isinstance(source, type) and issubclass(source, Message):
        return pb.OutputFormat(protobuf=_protobuf_format(source))
    if hasattr(source, "model_json_schema"):
        return pb.OutputFormat(json_schema=json.dumps(source.model_json_schema()))
    raise TypeError(
        "must be 'json', a JSON Schema, a pydantic model or a protobuf message class, "
        f"not {source!r}"
    )


def parsed(result: Result, kind: type[T]) -> T:
    """The answer as an object of `kind`. Raises ParseError if it cannot be parsed."""
    try:
        if issubclass(kind, Message):
            return cast("T", json_format.Parse(result.text, kind()))
        model: Any = kind  # a pydantic.BaseModel; pydantic need not be installed
        return cast("T", model.model_validate_json(result.text))
    except (ValueError, json_format.ParseError) as error:
        cause = (
            f"generation ended with {result.finish_reason} before the answer was complete"
            if result.finish_reason != "STOP"
            else str(error)
        )
        message = f"the answer is not a valid {kind.__name__}: {cause}"
        raise ParseError(message, partial=result) from error


def _protobuf_format(kind: type[Message]) -> pb.ProtobufFormat:
    files: dict[str, Any] = {}
    _collect(kind.DESCRIPTOR.file, files)
    descriptors = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(descriptors.file.add())
    return pb.ProtobufFormat(
        message_type=kind.DESCRIPTOR.full_name,
        file_descriptor_set=descriptors.SerializeToString(),
    )


def _collect(file: Any, files: dict[str, Any]) -> None:
    """Add a file after all its imports."""
    if file.name not in files:
        for imported in file.dependencies:
            _collect(imported, files)
        files[file.name] = file
