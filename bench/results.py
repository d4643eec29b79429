"""The raw results of a run: a CSV file with one metric a line, and facts about the machine."""

import csv
import os
import platform
import subprocess
import timeit
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TextIO

COLUMNS = ("round", "contestant", "cell", "metric", "value")
# Above this, the load generator may be late, and a cell says little about the contestant.
LOAD_CORE_MAX = 0.7
PACKAGES = ("grpcio", "protobuf", "uvloop")


@dataclass(frozen=True)
class Results:
    """Facts, and for each contestant, cell and metric the values by round."""

    facts: dict[str, str] = field(default_factory=dict)
    values: dict[tuple[str, str, str], dict[int, float]] = field(default_factory=dict)

    def rounds(self, contestant: str, cell: str, metric: str) -> Mapping[int, float]:
        """The values of a metric by round; empty if it was not measured."""
        return self.values.get((contestant, cell, metric), {})

    def contestants(self, cell: str) -> list[str]:
        """The contestants that were measured in a cell."""
        return list(dict.fromkeys(name for name, in_cell, _ in self.values if in_cell == cell))


class Writer:
    """Writes each measurement to the file at once, so that an interrupted run keeps its rounds."""

    def __init__(self, file: TextIO, facts: Mapping[str, str]) -> None:
        """Write the facts as comments, and the names of the columns."""
        self._file = file
        file.writelines(f"# {name}: {value}\n" for name, value in facts.items())
        self._csv = csv.writer(file)
        self._csv.writerow(COLUMNS)

    def write(self, number: int, contestant: str, cell: str, metrics: Mapping[str, float]) -> None:
        """Write one measurement."""
        for metric, value in metrics.items():
            self._csv.writerow((number, contestant, cell, metric, f"{value:.10g}"))
        self._file.flush()


def read(path: Path) -> Results:
    """Read a file. Raises ValueError if it is not a file of results."""
    lines = path.read_text().splitlines()
    comments = [line.removeprefix("# ").partition(": ") for line in lines if line.startswith("#")]
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    if tuple(rows.fieldnames or ()) != COLUMNS:
        raise ValueError(f"{path} does not have the columns {', '.join(COLUMNS)}")
    values: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    for row in rows:
        key = row["contestant"], row["cell"], row["metric"]
        values[key][int(row["round"])] = float(row["value"])
    return Results({name: value for name, _, value in comments}, dict(values))


def facts(**more: object) -> dict[str, str]:
    """What may explain a difference between two runs: processor, kernel, versions."""
    versions = [f"{name} {metadata.version(name)}" for name in PACKAGES]
    return {
        "processor": f"{_processor()}, {platform.machine()}",
        "kernel": platform.release(),
        "python": f"{platform.python_version()}, {', '.join(versions)}",
        "a million steps of a loop in Python": f"{_interpreter_ms():.0f} ms",
        "go": _output("go", "version"),
        "load average at the start": f"{os.getloadavg()[0]:.1f}",
        "commit": _output("git", "rev-parse", "--short", "HEAD"),
        **{name: str(value) for name, value in more.items()},
    }


def _interpreter_ms() -> float:
    """The time of a loop in the interpreter, which depends on how Python was built."""
    return min(timeit.repeat("for i in range(1_000_000): total += i", "total = 0", number=1)) * 1e3


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{len(models)} × {models[0]}" if models else "unknown"


def _output(*command: str) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False
        ).stdout.strip()
    except OSError:
        return "unknown"
