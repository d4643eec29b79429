"""The tables of a report, as Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from bench import goals
from bench.intervals import estimate, figure
from bench.results import LOAD_CORE_MAX, Results
from bench.roster import in_order, title_of

NOT_MEASURED = "–"


@dataclass(frozen=True)
class Column:
    """A metric as a column of a table. Values are divided by `divisor`.

    A column has the median of the rounds, with its interval if `interval`, or their sum if `total`.
    """

    title: str
    metric: str
    divisor: float = 1.0
    interval: bool = False
    total: bool = False
    highlight_above: float = inf

    def text(self, measured: Results, contestant: str, cell: str) -> str:
        """The figure of one contestant in a cell."""
        values = measured.rounds(contestant, cell, self.metric).values()
        if not values:
            return NOT_MEASURED
        if self.total:
            return figure(sum(values))
        found = estimate([value / self.divisor for value in values])
        text = found.text() if self.interval else figure(found.median)
        return f"**{text}**" if found.median > self.highlight_above else text


# A cell has those of which it has a value.
COLUMNS = [
    Column("CPU, µs", "cpu_us", interval=True),
    Column("TTFT, ms", "ttft_p50_us", 1000),
    Column("p99", "ttft_p99_us", 1000),
    Column("added p99", "added_p99_us", 1000),
    Column("added, ms", "ttft_added_us", 1000, interval=True),
    Column("tokens/s", "tokens_per_s", interval=True),
    Column("closed, ms", "close_p50_us", 1000),
    Column("p99", "close_p99_us", 1000),
    Column("open", "not_closed", total=True),
    Column("KiB a stream", "stream_bytes", 1024),
    Column("lost", "lost", total=True),
    Column("failed", "failed", total=True),
    Column("core 1, %", "load_core", 0.01, highlight_above=LOAD_CORE_MAX * 100),
    Column("SERVING, ms", "serving_ms", interval=True),
    Column("health check, ms", "healthcheck_ms", interval=True),
    Column("idle, MiB", "idle_rss_bytes", 1 << 20),
    Column("packages", "dependencies"),
    Column("packages, MiB", "installed_bytes", 1 << 20),
]


def cell_table(measured: Results, cell: str) -> str:
    """All that was measured in one cell."""
    names = in_order(measured.contestants(cell))
    columns = [
        column
        for column in COLUMNS
        if any(measured.rounds(name, cell, column.metric) for name in names)
    ]
    rows = (
        (title_of(name), *(column.text(measured, name, cell) for column in columns))
        for name in names
    )
    return table(["", *(column.title for column in columns)], rows)


def cpu_table(measured: Results) -> str:
    """The CPU time of every contestant in every cell that compares it."""
    cells = [cell for cell in goals.CPU_CELLS if measured.contestants(cell)]
    names = in_order({name for name, _, metric in measured.values if metric == "cpu_us"})
    cpu = Column("", "cpu_us")
    rows = ((title_of(name), *(cpu.text(measured, name, cell) for cell in cells)) for name in names)
    return table(["", *cells], rows)


def goal_table(measured: Results, contestant: str) -> str:
    """What the contestant is to reach, and whether it does."""
    return table(
        ["cell and metric", "compared with", "to reach", "reached", ""],
        goals.rows(measured, contestant),
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. Numbers are aligned to the right by its second line."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
