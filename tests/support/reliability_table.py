"""A pytest plugin that prints the measurements of reliability rows as a table at the end of a run.

A test marked `row("R1", "its promise")` records its measurements in the fixture `figures`. Bounds
on counts are checked in every run; bounds on times only with --full, because other tests that run
on the machine affect times.
"""

import operator
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

_BOUNDS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


@dataclass
class Row:
    """One row of the table."""

    number: str
    promise: str
    full: bool
    figures: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    result: str = "FAIL"
    took_s: float = 0.0

    def count(self, what: str, value: float, bound: str = "", limit: float = 0) -> None:
        """Record a value that does not depend on the machine's speed, and check its bound."""
        self._note(what, value, bound, limit, held=True)

    def time(self, what: str, value: float, bound: str = "", limit: float = 0) -> None:
        """Record a time or an amount of memory; its bound is checked with --full."""
        self._note(what, value, bound, limit, held=self.full)

    def some(self, full: int, short: int) -> int:
        """Choose a number: `full` with --full, otherwise `short`."""
        return full if self.full else short

    def _note(self, what: str, value: float, bound: str, limit: float, *, held: bool) -> None:
        shown = f"{value:,.2f}".rstrip("0").rstrip(".")
        self.figures.append(f"{what} {shown}" + (f" ({bound} {limit:,g})" if bound else ""))
        if held and bound and not _BOUNDS[bound](value, limit):
            self.broken.append(self.figures[-1])


_ROWS: pytest.StashKey[list[Row]] = pytest.StashKey()


def _order(row: Row) -> tuple[int, str]:
    return int("".join(filter(str.isdigit, row.number))), row.promise


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption(
        "--full",
        action="store_true",
        help="every row of docs/reliability.md at its full length, times held to their bounds",
    )
    parser.addoption("--minutes", type=float, help="how long the soak lasts")
    parser.addoption(
        "--record",
        action="store_true",
        help="write the answers of the real Ollama that the double plays",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker."""
    config.addinivalue_line("markers", "row(number, promise): a row of docs/reliability.md")
    config.stash[_ROWS] = []


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[Row]:
    """The row of the test that uses it."""
    mark = request.node.get_closest_marker("row")
    row = Row(mark.args[0], mark.args[1], full=request.config.getoption("--full"))
    request.config.stash[_ROWS].append(row)
    begin_s = time.monotonic()
    yield row
    row.took_s = time.monotonic() - begin_s
    report = getattr(request.node, "report", None)
    if report and report.passed and not row.broken:
        row.result = "pass"
    elif report and report.skipped:
        row.result = "skip"
    assert not row.broken, f"out of bounds: {', '.join(row.broken)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Pass the result of a test to the fixture."""
    report = yield
    if call.when == "call":
        item.report = report  # type: ignore[attr-defined]
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table."""
    noted: list[Row] = config.stash[_ROWS]
    rows = sorted(noted, key=_order)
    if rows:
        terminalreporter.section(f"reliability, {'full' if rows[0].full else 'short'}")
    for row in rows:
        terminalreporter.write_line(
            f"{row.number:4} {row.result}  {row.promise}  [{row.took_s:.0f} s]"
        )
        for figure in row.figures:
            terminalreporter.write_line(f"            {figure}")
