"""What eudai is to reach beside its peers, and whether it does."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.cells import BY_NAME
from bench.intervals import Estimate, estimate, figure, paired
from bench.results import Results

# The cells in which the CPU time is compared with every peer.
CPU_CELLS = ("flat", "64x500", "16x100", "32x20", "short-1", "short-16")
STREAM_BYTES_MAX = 64 << 10


@dataclass(frozen=True)
class Metric:
    """How a metric is called and written."""

    title: str
    unit: str = ""
    divisor: float = 1.0


METRICS = {
    "cpu_us": Metric("CPU", " µs"),
    "ttft_p50_us": Metric("first token p50", " ms", 1000),
    "ttft_p99_us": Metric("first token p99", " ms", 1000),
    "added_p99_us": Metric("added delay p99", " ms", 1000),
    "lost": Metric("lost tokens"),
    "failed": Metric("failed calls"),
    "stream_bytes": Metric("memory a stream", " KiB", 1024),
}
RATIO = Metric("", " ×")


@dataclass(frozen=True)
class Goal:
    """A metric of eudai in a cell: at most `limit`, in the metric's own unit.

    With a peer it is the ratio to the peer's, or the difference.
    """

    cell: str
    metric: str
    limit: float
    peer: str = ""
    is_difference: bool = False

    def reached(self, results: Results, contestant: str) -> Estimate | None:
        """The figure; None if the contestant or the peer was not measured."""
        values = results.rounds(contestant, self.cell, self.metric)
        if self.peer:
            compare = difference if self.is_difference else ratio
            return paired(values, results.rounds(self.peer, self.cell, self.metric), compare)
        return estimate(list(values.values())) if values else None

    def row(self, reached: Estimate) -> tuple[str, ...]:
        """What, compared with, to reach, reached with its interval, verdict."""
        metric = METRICS[self.metric]
        written = RATIO if self.peer and not self.is_difference else metric
        return (
            f"{BY_NAME[self.cell].title}: {metric.title}",
            f"+ {self.peer}" if self.is_difference else self.peer,
            f"≤ {figure(self.limit / written.divisor)}{written.unit}",
            f"{reached.divided(written.divisor).text()}{written.unit}",
            reached.verdict(self.limit),
        )


def ratio(value: float, other: float) -> float:
    """How many times the other value it is."""
    return value / other


def difference(value: float, other: float) -> float:
    """How much more than the other value it is."""
    return value - other


GOALS = [
    Goal("flat", "cpu_us", 1.2, "go"),
    Goal("flat", "cpu_us", 0.1, "usual"),
    Goal("64x500", "cpu_us", 1.0, "go"),
    Goal("64x500", "cpu_us", 0.5, "floor"),
    Goal("16x100", "cpu_us", 2.0, "go"),
    Goal("16x100", "cpu_us", 1.25, "floor"),
    Goal("short-1", "cpu_us", 4.5, "go"),
    Goal("short-16", "cpu_us", 10.0, "go"),
    Goal("short-1", "cpu_us", 2.2, "floor"),
    Goal("short-16", "cpu_us", 2.2, "floor"),
    Goal("short-1", "cpu_us", 0.5, "usual"),
    Goal("short-16", "cpu_us", 0.5, "usual"),
    *(Goal(cell, "cpu_us", 1.0, "fastapi") for cell in CPU_CELLS),
    *(Goal(cell, "cpu_us", 0.125, "litellm") for cell in CPU_CELLS),
    Goal("64x500", "ttft_p50_us", 2.0, "go"),
    Goal("64x500", "ttft_p99_us", 3.0, "go"),
    Goal("idle", "ttft_p50_us", 700.0, "direct", is_difference=True),
    Goal("idle", "ttft_p99_us", 1500.0, "direct", is_difference=True),
    Goal("32x20", "added_p99_us", 2000.0),
    Goal("held-1000", "lost", 0.0),
    Goal("held-1000", "failed", 0.0),
    Goal("held-1000", "stream_bytes", STREAM_BYTES_MAX),
]


def rows(results: Results, contestant: str) -> Iterator[tuple[str, ...]]:
    """The rows of the goals that were measured."""
    for goal in GOALS:
        if reached := goal.reached(results, contestant):
            yield goal.row(reached)
