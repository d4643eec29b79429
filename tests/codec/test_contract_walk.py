"""Every part of the contract has a test that fails if the server ignores the part.

contract_walk.toml lists the parts of each test: RPCs, fields, enum values and, for each scalar
field with presence, unset and zero. `make ignored` shows that these tests do fail.
"""

import ast
import pkgutil
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import eudai.v1
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

TESTS = Path(__file__).parents[1]
CONTRACT = "".join(path.read_text() for path in TESTS.parent.glob("proto/**/*.proto"))
TABLE = tomllib.loads(Path(__file__).with_name("contract_walk.toml").read_text())
FILES = [
    import_module(f"eudai.v1.{stubs.name}").DESCRIPTOR
    for stubs in pkgutil.iter_modules(eudai.v1.__path__)
    if stubs.name.endswith("_pb2")
]
RESERVED: set[str] = set(TABLE.pop("reserved"))
TESTED = [
    (part, f"{path}::{test}")
    for path, tests in TABLE.items()
    for test, parts in tests.items()
    for part in parts
]


def messages() -> Iterator[Descriptor]:
    """Every message, except the entries of maps."""
    for file in FILES:
        pending = list(file.message_types_by_name.values())
        for message in pending:
            if not message.GetOptions().map_entry:
                yield message
            pending += message.nested_types


def has_scalar_presence(field: FieldDescriptor) -> bool:
    """Whether the contract tells zero from unset. Members of a oneof are told apart as fields."""
    oneof = field.containing_oneof
    is_alone = oneof is None or len(oneof.fields) == 1
    return field.has_presence and field.message_type is None and is_alone


def enum_values() -> Iterator[str]:
    """Every value of an enum, nested enums included."""
    enums = [enum for file in FILES for enum in file.enum_types_by_name.values()]
    enums += [enum for message in messages() for enum in message.enum_types]
    return (value.name for enum in enums for value in enum.values)


def contract() -> Iterator[str]:
    """Each part, as contract_walk.toml names it."""
    yield from enum_values()
    for file in FILES:
        for service in file.services_by_name.values():
            yield from (f"{service.name}.{method.name}" for method in service.methods)
    for message in messages():
        for field in message.fields:
            yield f"{message.name}.{field.name}"
            if has_scalar_presence(field):
                yield from (f"{message.name}.{field.name} {kind}" for kind in ("unset", "zero"))


def names_in(path: Path) -> set[str]:
    """The names of a file's tests."""
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def test_the_table_has_every_part_of_the_contract_and_no_other() -> None:
    parts = list(contract())
    listed = [part for part, _ in TESTED] + list(RESERVED)

    assert len(parts) > 300
    assert sorted(listed) == sorted(parts)


@pytest.mark.parametrize("named", sorted({test for _, test in TESTED}))
def test_every_named_test_exists(named: str) -> None:
    path, _, name = named.partition("::")

    assert name in names_in(TESTS / path)


def test_only_reserved_values_have_no_test() -> None:
    marked = {
        value
        for value in enum_values()
        if "Reserved:" in CONTRACT[: CONTRACT.index(f"  {value} =")].rpartition(";")[2]
    }

    assert marked == RESERVED
