"""Every part of the contract has a test that fails where the server ignores it: contract_walk.toml names it.

The parts are the RPCs, the fields, the values of enums, and, for each scalar field with presence, that unset differs from zero.
That the tests do fail is shown by `make ignored`.
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
RESERVED = "reserved"
KINDS = ("rpcs", "fields", "values", "unset", "zero")

Part = tuple[str, str, str]


def messages() -> Iterator[Descriptor]:
    """Every message; what a map is made of is not one."""
    for file in FILES:
        pending = list(file.message_types_by_name.values())
        for message in pending:
            if not message.GetOptions().map_entry:
                yield message
            pending += message.nested_types


def has_scalar_presence(field: FieldDescriptor) -> bool:
    """Whether its zero can be told from unset. A member of a oneof is told from the others as a field."""
    oneof = field.containing_oneof
    is_alone = oneof is None or len(oneof.fields) == 1
    return field.has_presence and field.message_type is None and is_alone


def contract() -> Iterator[Part]:
    """Each part: its kind, what it belongs to, and its name."""
    for file in FILES:
        for service in file.services_by_name.values():
            yield from (("rpcs", service.name, method.name) for method in service.methods)
        for enum in file.enum_types_by_name.values():
            yield from (("values", enum.name, value.name) for value in enum.values)
    for message in messages():
        yield from (
            ("values", enum.name, value.name)
            for enum in message.enum_types
            for value in enum.values
        )
        for field in message.fields:
            yield "fields", message.name, field.name
            if has_scalar_presence(field):
                yield from ((kind, message.name, field.name) for kind in ("unset", "zero"))


WALKED = {
    (kind, owner, name): test
    for kind, owners in TABLE.items()
    for owner, names in owners.items()
    for name, test in names.items()
}


def names_in(path: Path) -> set[str]:
    """The names of a file's tests."""
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def test_every_part_of_the_contract_is_in_the_table_and_nothing_else() -> None:
    parts = list(contract())
    counts = {kind: sum(part[0] == kind for part in parts) for kind in KINDS}
    print(f"walked: {counts}")

    assert len(parts) == len(set(parts))
    assert set(parts) - WALKED.keys() == set()
    assert WALKED.keys() - set(parts) == set()
    assert all(counts.values())


@pytest.mark.parametrize("named", sorted(set(WALKED.values()) - {RESERVED}))
def test_a_named_test_exists(named: str) -> None:
    path, _, name = named.partition("::")

    assert name in names_in(TESTS / path)


def test_only_values_that_the_contract_reserves_lack_a_test() -> None:
    listed = {part for part, test in WALKED.items() if test == RESERVED}
    marked = {
        part
        for part in contract()
        if part[0] == "values"
        and "Reserved:" in CONTRACT[: CONTRACT.index(f"  {part[2]} =")].rpartition(";")[2]
    }

    assert listed == marked
