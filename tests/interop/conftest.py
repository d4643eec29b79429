"""Runs each scenario with each client, and prints the table of clients and scenarios."""

import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from interop.driver import Driver, all_drivers

SCENARIOS: dict[str, dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("scenarios.toml").read_text()
)
CLIENTS = {driver.client: driver for driver in all_drivers()}
CELL_CHARACTERS = max(map(len, CLIENTS)) + 2
_RESULTS: pytest.StashKey[dict[tuple[str, str], Counter[str]]] = pytest.StashKey()
_BUILT: pytest.StashKey[set[str]] = pytest.StashKey()


def scenario_of(item: pytest.Item) -> str:
    """The scenario that a test runs."""
    return str(getattr(item, "originalname", "")).removeprefix("test_").replace("_", "-")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `make clients`."""
    parser.addoption("--all-scenarios", action="store_true", help="not only the smoke scenarios")


def pytest_configure(config: pytest.Config) -> None:
    """Start with an empty table."""
    config.stash[_RESULTS] = {}
    config.stash[_BUILT] = set()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each scenario with each client."""
    if "client" in metafunc.fixturenames:
        metafunc.parametrize("client", CLIENTS, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes longer than `make test` should."""
    if config.getoption("--all-scenarios", default=False):
        return
    slow = [
        item
        for item in items
        if "client" in getattr(item, "fixturenames", ())
        and not SCENARIOS.get(scenario_of(item), {}).get("smoke")
    ]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Driver:
    """The driver of a client, built once; skips what the client cannot do."""
    driver = CLIENTS[request.param]
    reason = driver.unsupported.get(scenario_of(request.node))
    if reason:
        pytest.skip(reason)
    built = request.config.stash[_BUILT]
    if driver.client not in built:
        driver.build()
        built.add(driver.client)
    return driver


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Note the result for the table."""
    report = yield
    if "client" in getattr(item, "fixturenames", ()) and (call.when == "call" or not report.passed):
        cell = scenario_of(item), item.callspec.params["client"]  # type: ignore[attr-defined]
        item.config.stash[_RESULTS].setdefault(cell, Counter())[report.outcome] += 1
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table."""
    results = config.stash[_RESULTS]
    if not results:
        return
    terminalreporter.section("clients and scenarios")
    terminalreporter.write_line(_row("", CLIENTS))
    for scenario in SCENARIOS:
        cells = [
            _shown(results.get((scenario, client), Counter()), driver.unsupported.get(scenario))
            for client, driver in CLIENTS.items()
        ]
        terminalreporter.write_line(_row(scenario, cells))
    for client, driver in CLIENTS.items():
        for scenario, reason in driver.unsupported.items():
            terminalreporter.write_line(f"{client} cannot {scenario}: {reason}")


def _row(name: str, cells: Iterable[str]) -> str:
    """A line of the table."""
    return f"{name:<30}" + "".join(f"{cell:<{CELL_CHARACTERS}}" for cell in cells)


def _shown(cell: Counter[str], unsupported: str | None) -> str:
    """The text of a cell: the result of all tests of one scenario with one client."""
    if not cell:
        return "not run"
    if set(cell) == {"skipped"}:
        return "cannot" if unsupported else "skipped"
    if cell["failed"]:
        return "FAIL"
    return f"pass {cell['passed']}" if cell["passed"] > 1 else "pass"
