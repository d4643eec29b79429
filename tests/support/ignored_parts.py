"""A pytest plugin: with `--ignoring`, each test of the contract walk runs against a lossy server.

Each test in tests/codec/contract_walk.toml runs once for each of its parts, with a server that
loses this part of requests, responses and statuses. The run fails if no case of a test notices
the loss of its part, and lists such parts at the end. `make ignored` runs it.
"""

import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from eudai_server.core.errors import Reason, ServiceError
from eudai_server.rpc.transport import call as calls
from eudai_server.rpc.wire import status
from google.protobuf.message import Message
from google.rpc import error_details_pb2

TESTS = Path(__file__).parents[1]
TABLE = TESTS / "codec/contract_walk.toml"
PACKAGE = "eudai.v1."
# Parts that a server cannot lose on the wire; their tests check the code.
OFF_THE_WIRE = {
    "ERROR_REASON_UNSPECIFIED",
    "GENERATION_PHASE_UNSPECIFIED",
    "GENERATION_WARNING_CODE_UNSPECIFIED",
    "GenerationProgress.requests_ahead zero",
}

_FAILED: pytest.StashKey[dict[str, bool]] = pytest.StashKey()


def parts_by_test() -> dict[str, list[str]]:
    """The parts of each test."""
    table = tomllib.loads(TABLE.read_text())
    del table["reserved"]
    return {
        f"{path}::{test}": [part for part in parts if part not in OFF_THE_WIRE]
        for path, tests in table.items()
        for test, parts in tests.items()
    }


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--ignoring",
        action="store_true",
        help="run the tests of the contract walk before servers that ignore what each is for",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the results."""
    config.stash[_FAILED] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each of its parts."""
    if metafunc.config.getoption("--ignoring"):
        path = Path(metafunc.module.__file__).relative_to(TESTS)
        if parts := parts_by_test().get(f"{path}::{metafunc.function.__name__}"):
            metafunc.parametrize("_ignored", parts, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out all other tests."""
    if config.getoption("--ignoring"):
        items[:] = [item for item in items if _part_of(item)]


def _part_of(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("_ignored", "")) if callspec else ""


@pytest.fixture(autouse=True)
def _ignored(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    part = getattr(request, "param", "")
    if request.config.stash[_FAILED].get(part):
        pytest.skip("another case of this test has failed")
    if part:
        ignore(part, monkeypatch)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Note which parts made a test fail."""
    report = yield
    if part := _part_of(item):
        failed = item.config.stash[_FAILED]
        failed[part] = failed.get(part, False) or (report.when != "teardown" and report.failed)
        report.outcome = "passed"
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if no test notices a part."""
    if not all(session.config.stash[_FAILED].values()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List the parts that no test notices."""
    failed = config.stash[_FAILED]
    if failed:
        unnoticed = [part for part in failed if not failed[part]]
        terminalreporter.section(
            f"ignored {len(failed)} parts of the contract, {len(unnoticed)} unnoticed"
        )
        for part in unnoticed:
            terminalreporter.write_line(part)


def ignore(part: str, patch: pytest.MonkeyPatch) -> None:
    """Let the server lose a part of every request, answer and status."""
    _ignore_in_requests(part, patch)
    _ignore_in_responses(part, patch)
    _ignore_in_statuses(part, patch)


def _ignore_in_requests(part: str, patch: pytest.MonkeyPatch) -> None:
    read, read_all = calls.Call.read, calls.Call.read_all

    def lose(call: calls.Call, request: Message) -> Message:
        if call.method == PACKAGE + part.replace(".", "/"):
            raise ServiceError(Reason.INTERNAL, f"{part} is ignored")
        if call.method.startswith(PACKAGE):
            _remove(part, request)
        return request

    async def read_without(call: calls.Call, kind: type[Message]) -> Message:
        return lose(call, await read(call, kind))

    async def read_all_without(call: calls.Call, kind: type[Message]) -> AsyncIterator[Message]:
        async with aclosing(read_all(call, kind)) as requests:
            async for request in requests:
                yield lose(call, request)

    patch.setattr(calls.Call, "read", read_without)
    patch.setattr(calls.Call, "read_all", read_all_without)


def _ignore_in_responses(part: str, patch: pytest.MonkeyPatch) -> None:
    write = calls.Call.write

    async def write_without(call: calls.Call, message: Message) -> None:
        if call.method.startswith(PACKAGE):
            _remove(part, message)
        await write(call, message)

    patch.setattr(calls.Call, "write", write_without)


def _ignore_in_statuses(part: str, patch: pytest.MonkeyPatch) -> None:
    def status_without(error: ServiceError, failure: Message | None = None) -> Any:
        if failure:
            _remove(part, failure)
        whole = status.status_from(error, failure)
        if part == f"ERROR_REASON_{error.reason}":
            whole.details[0].Pack(error_details_pb2.ErrorInfo(domain="eudai"))
        return whole

    patch.setattr(calls, "status_from", status_without)


def _remove(part: str, message: Message) -> None:
    field_name, _, taken_for = part.partition(" ")
    for inner in list(_messages(message)):
        for field in inner.DESCRIPTOR.fields:
            values = field.enum_type.values if field.enum_type else ()
            numbers = {value.name: value.number for value in values}
            if field.full_name == PACKAGE + field_name:
                _ignore_field(inner, field.name, taken_for)
            elif part in numbers:
                _change_value(inner, field.name, numbers[part], list(numbers.values()))


def _ignore_field(message: Message, name: str, taken_for: str) -> None:
    default = message.DESCRIPTOR.fields_by_name[name].default_value
    if taken_for == "unset" and not message.HasField(name):
        setattr(message, name, default)
    elif not taken_for or (taken_for == "zero" and getattr(message, name) == default):
        message.ClearField(name)


def _change_value(message: Message, field_name: str, value: int, values: list[int]) -> None:
    """Replace a value of an enum: the last one, or the first one in place of the last."""
    other = values[0] if value == values[-1] else values[-1]
    found = getattr(message, field_name)
    if isinstance(found, int):
        if found == value:
            setattr(message, field_name, other)
    else:
        found[:] = [other if one == value else one for one in found]


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for inner in [value] if isinstance(value, Message) else value:
            yield from _messages(inner)
