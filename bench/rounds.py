"""The rounds of a run: every contestant in its cells, in random order."""

import random
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from processes import free_port

from bench.cells import Cell
from bench.generator import Target, measure, wait_until_ready
from bench.programs import CONTESTANT_CORE, LOAD_CORE, BenchError, running
from bench.results import LOAD_CORE_MAX, Writer
from bench.roster import Contestant, Place
from bench.startup import measure_startup


@dataclass
class Run:
    """One run. `startup` also measures how eudai starts; `folder` has logs and configurations."""

    contestants: list[Contestant]
    cells: list[Cell]
    rounds: int
    startup: bool
    chooser: random.Random
    writer: Writer
    ollama_port: int
    folder: Path
    begin_s: float = field(default_factory=time.monotonic)
    dropped: set[str] = field(default_factory=set)

    def measure_all(self) -> None:
        """Measure all rounds, then the cells that are measured once."""
        for number in range(1, self.rounds + 1):
            for contestant in self.chooser.sample(self.contestants, len(self.contestants)):
                cells = self._cells_of(contestant, once=False)
                self.chooser.shuffle(cells)
                if contestant.fresh:
                    self._measure_fresh(number, contestant, cells)
                else:
                    self._measure(number, contestant, cells)
        for contestant in self.contestants:
            self._measure_fresh(1, contestant, self._cells_of(contestant, once=True))
        if self.startup:
            for number in range(1, self.rounds + 1):
                for contestant in self.contestants:
                    if contestant.name.startswith("eudai"):
                        self._measure_startup(number, contestant)

    def _cells_of(self, contestant: Contestant, *, once: bool) -> list[Cell]:
        return [cell for cell in self.cells if cell.once == once and cell.name in contestant.cells]

    def _measure_fresh(self, number: int, contestant: Contestant, cells: list[Cell]) -> None:
        """Measure each cell in a new process."""
        for cell in cells:
            self._measure(number, contestant, [cell])

    def _measure(self, number: int, contestant: Contestant, cells: list[Cell]) -> None:
        """Measure a contestant, or drop it from the run if it does not work."""
        if contestant.name in self.dropped or not cells:
            return
        try:
            with ExitStack() as stack:
                self._measure_cells(number, self._started(stack, contestant), cells)
        except BenchError as error:
            self.dropped.add(contestant.name)
            self._say(f"{contestant.name} is dropped from the run: {error}")

    def _started(self, stack: ExitStack, contestant: Contestant) -> Target:
        counts_url = f"http://127.0.0.1:{self.ollama_port}/counts"
        if contestant.command is None:
            return Target(contestant, self.ollama_port, None, counts_url)
        place = self._place()
        log = self.folder / f"{contestant.name}.log"
        program = stack.enter_context(
            running(contestant.command(place), CONTESTANT_CORE, log, contestant.env(place))
        )
        program.wait_for_port(place.port)
        return Target(contestant, place.port, program, counts_url)

    def _measure_cells(self, number: int, target: Target, cells: list[Cell]) -> None:
        wait_until_ready(target)
        name = target.contestant.name
        idle_rss_bytes = target.program.rss_bytes() if target.program else 0
        for cell in cells:
            if target.program:
                target.program.wait_until_idle()
            metrics, errors = measure(target, cell)
            if target.program and cell.once and not cell.cancel_share:
                metrics["stream_bytes"] = (metrics["rss_bytes"] - idle_rss_bytes) / cell.streams
            self.writer.write(number, name, cell.name, metrics)
            self._say(f"round {number}  {name:8}  {cell.name:9}  {_line(metrics)}")
            for text, count in errors.items():
                self._say(f"  {count} × {text.strip()}")

    def _measure_startup(self, number: int, contestant: Contestant) -> None:
        metrics = measure_startup(contestant, self._place())
        self.writer.write(number, contestant.name, "start", metrics)
        self._say(f"round {number}  {contestant.name:8}  start  {metrics['serving_ms']:.0f} ms")

    def _place(self) -> Place:
        return Place(free_port(), f"http://127.0.0.1:{self.ollama_port}", self.folder)

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.begin_s:5.0f} s] {text}", flush=True)


def _line(metrics: Mapping[str, float]) -> str:
    """A measurement, in a few words."""
    parts = [f"{metrics['cpu_us']:8.1f} µs CPU"] if "cpu_us" in metrics else []
    if "ttft_p50_us" in metrics:
        parts.append(f"first token {metrics['ttft_p50_us'] / 1e3:.2f} ms")
    parts += [f"{metrics[name]:.0f} {name}" for name in ("failed", "lost") if metrics[name]]
    if metrics["load_core"] > LOAD_CORE_MAX:
        parts.append(f"core {LOAD_CORE} was {metrics['load_core']:.0%} busy")
    return ", ".join(parts)
