"""docs/ollama-coverage.md names only parts of the contract that exist.

It names every method and every field that a caller can ask of Ollama.
"""

import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import eudai.v1
from google.protobuf.descriptor import FileDescriptor

PAGE = (Path(__file__).parents[2] / "docs/ollama-coverage.md").read_text()
# Each list item: what Ollama has, and where it is in the contract or why it is not supported.
ROWS = [
    " ".join(item.split()).split(": ", 1)
    for item in re.findall(r"^- (.*(?:\n  .*)*)", PAGE, re.MULTILINE)
]
FILES: list[FileDescriptor] = [
    import_module(f"eudai.v1.{stubs.name}").DESCRIPTOR
    for stubs in pkgutil.iter_modules(eudai.v1.__path__)
    if stubs.name.endswith("_pb2")
]

REASON_CHARS_MIN = 8

# Parts that the service adds; Ollama does not have them.
OURS = {
    "expected_digest", "events", "labels", "time_budget", "logprobs", "sampling", "stop",
    "format", "reasoning", "load", "tools", "infill", "conversation", "hide", "messages",
    "parts", "tool_calls", "media", "file_descriptor_set", "message_type", "allow_missing",
    "detach", "page_size", "page_token", "loaded_only", "capabilities", "progress",
    "heartbeat_interval", "flush_interval", "request", "digest", "data", "tool_choice",
}  # fmt: skip


def contract() -> Iterator[str]:
    """Every `Message.field`, `Service.Method` and enumeration."""
    for file in FILES:
        for message in file.message_types_by_name.values():
            yield from (f"{message.name}.{field.name}" for field in message.fields)
        for service in file.services_by_name.values():
            yield from (f"{service.name}.{method.name}" for method in service.methods)
        yield from file.enum_types_by_name


def named() -> set[str]:
    """The names on the page."""
    return {name for row in ROWS for name in re.findall(r"`([A-Z][a-z]\w+(?:\.\w+)?)`", row[1])}


def test_every_name_on_the_page_exists() -> None:
    assert named() - set(contract()) == set()


def test_every_method_and_every_field_of_a_request_is_on_the_page() -> None:
    asked = {
        name
        for name in contract()
        if re.match(r"\w+(Service\.|Request\.|Options\.)", name)
        or name.startswith(("Tool.", "Infill."))
    }
    ours = {
        name
        for name in asked
        if name.partition(".")[2] in OURS or name == "ServerService.GetServerInfo"
    }

    assert asked - ours - named() == set()


def test_every_missing_feature_has_a_reason() -> None:
    reasons = [
        row[1].removeprefix("not supported").strip(";: ") for row in ROWS if row[1].startswith("no")
    ]

    assert reasons
    assert [reason for reason in reasons if len(reason) < REASON_CHARS_MIN] == []
