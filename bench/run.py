"""Measures contestants in cells, round by round, and prints the report.

    make bench                                      everything, 5 rounds: about 20 minutes
    make bench-quick                                fewer contestants and cells, 3 rounds: 3 minutes
    make bench-quick ARGS="--contestants eudai,go --cells 64x500,short-1 --rounds 3"
    make bench-quick ARGS="--eudai ../other/.venv/bin/python"         compare with another checkout

One contestant runs at a time, on core 0. The fake Ollama, the load generator and this program run
on core 1. The order of contestants and cells is random, by a seed that is printed.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from processes import free_port

from bench import report, results
from bench.cells import BY_NAME, CELLS, Cell, shortened
from bench.programs import CONTESTANT_CORE, LOAD_CORE, BenchError, running
from bench.roster import BIN, CONTESTANTS, Contestant, other_eudai
from bench.rounds import Run

RESULTS = Path(__file__).parent / "results"
ROUNDS = 5
STARTUP = "start"  # not a cell of the load generator
QUICK_ROUNDS = 3
QUICK_CONTESTANTS = ["go", "floor", "fastapi", "eudai"]
QUICK_CELLS = ["flat", "64x500", "16x100", "short-1", "short-16"]


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; returns the exit code: 1 if a contestant did not work."""
    options = _options(arguments)
    if not {CONTESTANT_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        print(f"the benchmark needs the cores {CONTESTANT_CORE} and {LOAD_CORE}")
        return 1
    os.sched_setaffinity(0, {LOAD_CORE})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("%Y%m%d-%H%M%S.csv")
    try:
        dropped = _run(options, path)
    except KeyboardInterrupt:
        print("interrupted; every program was stopped")
        return 1
    except BenchError as error:
        print(f"the benchmark failed: {error}")
        return 1
    finally:
        print(f"raw results: {path}")
    measured = results.read(path)
    print(report.text(measured))
    if options.write:
        report.write(measured)
    return bool(dropped)


def _run(options: argparse.Namespace, path: Path) -> set[str]:
    """Measure what the options select, into a file; returns the contestants that did not work."""
    contestants, cells = _selected(options)
    ollama_port = free_port()
    command = [str(BIN / "fakeollama"), "-listen", f"127.0.0.1:{ollama_port}"]
    with tempfile.TemporaryDirectory(prefix="eudai-bench-") as name, path.open("w") as file:
        folder = Path(name)
        with running(command, LOAD_CORE, folder / "fakeollama.log") as ollama:
            ollama.wait_for_port(ollama_port)
            run = Run(
                contestants,
                cells,
                options.rounds,
                startup=STARTUP in options.cells,
                chooser=random.Random(options.seed),
                writer=results.Writer(file, results.facts(seed=options.seed)),
                ollama_port=ollama_port,
                folder=folder,
            )
            run.measure_all()
    return run.dropped


def _selected(options: argparse.Namespace) -> tuple[list[Contestant], list[Cell]]:
    """The contestants and the cells that the options select."""
    contestants = [one for one in CONTESTANTS if one.name in options.contestants]
    contestants += [other_eudai(python) for python in options.eudai]
    cells = [cell for cell in CELLS if cell.name in options.cells]
    return contestants, [shortened(cell) for cell in cells] if options.quick else cells


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    """The options, with the defaults of the quick or the full form."""
    names = [one.name for one in CONTESTANTS]
    cells = [*BY_NAME, STARTUP]
    parser = argparse.ArgumentParser(prog="bench.run", description="Measure eudai and its peers.")
    add = parser.add_argument
    add("--contestants", type=_names(names), metavar="A,B", help=", ".join(names))
    add("--cells", type=_names(cells), metavar="A,B", help=", ".join(cells))
    add("--rounds", type=int, metavar="N", help=f"{ROUNDS}; {QUICK_ROUNDS} with --quick")
    add("--quick", action="store_true", help="fewer contestants, cells and rounds")
    add("--eudai", type=Path, action="append", default=[], metavar="PYTHON", help="another server")
    add("--seed", type=int, default=random.randrange(10**6), help="of the order")
    add("--write", action="store_true", help="write docs/performance.md and its charts")
    options = parser.parse_args(arguments)
    options.contestants = options.contestants or (QUICK_CONTESTANTS if options.quick else names)
    options.cells = options.cells or (QUICK_CELLS if options.quick else cells)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    return options


def _names(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    """A parser of names that are separated by commas."""

    def parse(text: str) -> list[str]:
        unknown = [name for name in text.split(",") if name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is not one of {', '.join(allowed)}")
        return text.split(",")

    return parse


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
