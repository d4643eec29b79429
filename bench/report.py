"""Prints the results of a run as Markdown, or writes them into docs/performance.md.

python -m bench.report bench/results/20261126-120000.csv prints, and --write writes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import goals, results
from bench.cells import BY_NAME, CELLS
from bench.charts import Bar, Group, bar_chart
from bench.intervals import estimate, figure
from bench.results import Results
from bench.roster import ROOT, in_order, title_of
from bench.tables import cell_table, cpu_table, goal_table

DOCUMENT = ROOT / "docs/performance.md"
CHARTS = ROOT / "docs/performance"
BEGIN = "<!-- figures: begin -->"
END = "<!-- figures: end -->"
# Those that the load generator does not run.
OTHER_CELLS = {
    "start": "Start and size",
    "real": "Real Ollama, gemma3:270m",
    "real-fast": "Real Ollama, a scripted model",
}
FIRST_TOKEN_CELL = "64x500"  # noqa: S105 - no secret


def text(measured: Results) -> str:
    """The facts and all tables."""
    parts = ["\n".join(f"- {name}: {value}" for name, value in measured.facts.items())]
    if any(measured.contestants(cell) for cell in goals.CPU_CELLS):
        parts += ["### CPU time", "In µs for each token, or for each short call."]
        parts += [cpu_table(measured)]
    for name in _ours(measured):
        if any(goals.rows(measured, name)):
            parts += [f"### To reach: {name}", goal_table(measured, name)]
    for cell in CELLS:
        if measured.contestants(cell.name):
            title = cell.title[0].upper() + cell.title[1:]
            parts += [f"### {title}", cell_table(measured, cell.name)]
    for name, title in OTHER_CELLS.items():
        if measured.contestants(name):
            parts += [f"### {title}", cell_table(measured, name)]
    return "\n\n".join(parts)


def cpu_chart(measured: Results) -> str:
    """The CPU time of each contestant in each cell."""
    cells = [cell for cell in goals.CPU_CELLS if measured.contestants(cell)]
    groups = [Group(BY_NAME[cell].title, _bars(measured, cell, "cpu_us")) for cell in cells]
    return bar_chart("CPU time for each token or short call, µs (logarithmic)", groups)


def first_token_chart(measured: Results) -> str:
    """The time to the first token under load; the thin line ends at the 99th percentile."""
    bars = _bars(measured, FIRST_TOKEN_CELL, "ttft_p50_us", "ttft_p99_us", 1000)
    title = "Time to the first token, ms: median, and line to p99 (logarithmic)"
    return bar_chart(title, [Group(BY_NAME[FIRST_TOKEN_CELL].title, bars)])


def write(measured: Results) -> None:
    """Replace the figures of the document, and its charts.

    Raises ValueError if cells of the charts were not measured.
    """
    missing = [cell for cell in goals.CPU_CELLS if not measured.contestants(cell)]
    if missing:
        raise ValueError(f"the results lack the cells {', '.join(missing)}")
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text(measured)}\n\n{END}{after}")
    CHARTS.mkdir(exist_ok=True)
    (CHARTS / "cpu.svg").write_text(cpu_chart(measured))
    (CHARTS / "first_token.svg").write_text(first_token_chart(measured))


def main(arguments: Sequence[str]) -> int:
    """Print or write a report; returns the exit code."""
    parser = argparse.ArgumentParser(description="Report the results of a run.")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and charts")
    parser.add_argument("results", type=Path)
    options = parser.parse_args(arguments)
    measured = results.read(options.results)
    if options.write:
        write(measured)
    else:
        print(text(measured))
    return 0


def _ours(measured: Results) -> list[str]:
    return in_order({name for name, _, _ in measured.values if name.startswith("eudai")})


def _bars(
    measured: Results, cell: str, metric: str, line_metric: str = "", divisor: float = 1.0
) -> list[Bar]:
    """A bar for each contestant that was measured in the cell, the smallest first."""
    bars = []
    for name in measured.contestants(cell):
        if values := measured.rounds(name, cell, metric).values():
            median = estimate(list(values)).median / divisor
            line = measured.rounds(name, cell, line_metric).values()
            line_to = estimate(list(line)).median / divisor if line else 0.0
            label = title_of(name).strip("*")
            bars.append(Bar(label, median, figure(median), name.startswith("eudai"), line_to))
    return sorted(bars, key=lambda bar: bar.value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
