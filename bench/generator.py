"""Runs the load generator against a contestant, and measures the contestant meanwhile."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from bench.cells import READY, Cell
from bench.programs import LOAD_CORE, BenchError, Program
from bench.roster import BIN, Contestant

SLACK_S = 30.0
READY_TRIES = 60
# The distributions that the load generator prints, and the percentiles that are kept.
DISTRIBUTIONS = ("ttft_us", "added_us", "gap_us", "close_us")
PERCENTILES = ("p50", "p99")
COUNTS = ("calls", "failed", "tokens", "messages", "lost")
CANCEL_COUNTS = ("cancelled", "not_closed")


@dataclass(frozen=True)
class Target:
    """A running contestant; `program` is None if the load goes to the fake Ollama."""

    contestant: Contestant
    port: int
    program: Program | None
    counts_url: str


@dataclass(frozen=True)
class Sample:
    """What is read when the window begins, and again when it ends."""

    contestant_cpu_s: float
    contestant_rss_bytes: int
    load_core_s: float
    load_core_idle_s: float
    steal_s: float

    @classmethod
    def of(cls, program: Program | None) -> "Sample":
        """Read it now."""
        cores = psutil.cpu_times(percpu=True)
        load_core, steal_s = cores[LOAD_CORE], sum(core.steal for core in cores)
        cpu_s, rss_bytes = (program.cpu_s(), program.rss_bytes()) if program else (0.0, 0)
        return cls(cpu_s, rss_bytes, sum(load_core), load_core.idle + load_core.iowait, steal_s)


def measure(target: Target, cell: Cell) -> tuple[dict[str, float], dict[str, int]]:
    """Run one cell; returns its metrics, and the texts of failures with their counts.

    Raises BenchError if the load generator does not end in time or prints no result.
    """
    with _load(target, cell) as load:
        assert load.stderr
        # Each line is read as soon as it is written.
        samples = [
            Sample.of(target.program) for line in load.stderr if line.strip() in {"begin", "end"}
        ]
        assert load.stdout
        output = load.stdout.read()
        load.wait(SLACK_S)
    if load.returncode or len(samples) != 2:  # noqa: PLR2004 - the beginning and the end
        raise BenchError(f"the load generator ended with {load.returncode} in {cell.name}")
    result = json.loads(output)
    metrics = _metrics(result, samples[0], samples[1], cell)
    if target.program:
        metrics["rss_peak_bytes"] = target.program.peak_rss_bytes()
    return metrics, result.get("errors") or {}


def wait_until_ready(target: Target) -> None:
    """Make calls until one succeeds. Raises BenchError if none does."""
    for _ in range(READY_TRIES):
        metrics, errors = measure(target, READY)
        if metrics["calls"] and not metrics["failed"]:
            return
    log = target.program.log() if target.program else ""
    raise BenchError(f"{target.contestant.name} answers no call: {errors}{log}")


@contextmanager
def _load(target: Target, cell: Cell) -> Iterator["subprocess.Popen[str]"]:
    """Run the load generator, and kill it if it takes too long."""
    contestant = target.contestant
    command = [
        *("taskset", "--cpu-list", str(LOAD_CORE), str(BIN / "load")),
        *("-driver", contestant.driver, "-target", f"127.0.0.1:{target.port}"),
        *("-path", contestant.path, "-model", contestant.model),
        *cell.arguments(),
    ]
    if cell.cancel_share:
        command += ["-counts", target.counts_url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as load:
        limit = threading.Timer(cell.warmup_s + cell.window_s + SLACK_S, load.kill)
        limit.start()
        try:
            yield load
        finally:
            limit.cancel()
            load.kill()


def _metrics(result: dict[str, Any], begin: Sample, end: Sample, cell: Cell) -> dict[str, float]:
    counts = COUNTS + CANCEL_COUNTS if cell.cancel_share else COUNTS
    metrics = {name: float(result[name]) for name in counts}
    for distribution in DISTRIBUTIONS:
        values = result.get(distribution)
        if values and values["n"]:
            for percentile in PERCENTILES:
                metrics[f"{distribution[:-3]}_{percentile}_us"] = float(values[percentile])
    cpu_s = end.contestant_cpu_s - begin.contestant_cpu_s
    metrics["window_s"] = float(result["seconds"])
    metrics["cpu_s"] = cpu_s
    metrics["rss_bytes"] = end.contestant_rss_bytes
    if metrics[cell.unit] and cpu_s:
        metrics["cpu_us"] = cpu_s * 1e6 / metrics[cell.unit]
    passed_s = end.load_core_s - begin.load_core_s
    metrics["load_core"] = 1 - (end.load_core_idle_s - begin.load_core_idle_s) / passed_s
    metrics["steal"] = (end.steal_s - begin.steal_s) / passed_s  # of both cores, by other machines
    return metrics
