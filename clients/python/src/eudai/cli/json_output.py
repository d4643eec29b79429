"""What the commands print as JSON: results, messages of the contract, and errors."""

import dataclasses
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from eudai.errors import EudaiError
from eudai.results import Result


def message_fields(message: Message) -> dict[str, Any]:
    """A message of the contract in the protobuf JSON mapping, with the names of the contract."""
    return MessageToDict(message, preserving_proto_field_name=True)


def result_fields(result: Result) -> dict[str, Any]:
    """The result of a generation, without log probabilities."""
    fields = dataclasses.asdict(dataclasses.replace(result, logprobs=(), reasoning_logprobs=()))
    del fields["logprobs"], fields["reasoning_logprobs"]
    return fields


def error_fields(error: EudaiError) -> dict[str, Any]:
    """An error with its details. `partial` is the output so far of a failed stream, or None."""
    return {
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "retry_after_s": error.retry_after_s,
        "violations": [dataclasses.asdict(each) for each in error.violations],
        "metadata": error.metadata,
        "partial": result_fields(error.partial) if error.partial else None,
    }
