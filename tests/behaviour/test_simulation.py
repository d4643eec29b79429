"""Runs the simulation: the whole server on a virtual clock, as a seed determines.

`make simulate` runs a thousand seeds.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from reliability_table import Row

pytestmark = pytest.mark.slow

TESTS = Path(__file__).resolve().parents[1]
# The simulation of a server that refuses every generation, for the reason in the first argument.
REFUSING = """
import sys
from unittest import mock
from eudai_server.core.admission import Admission
from eudai_server.core.errors import Reason, ServiceError
from simulation.simulate import main
reason = Reason[sys.argv.pop(1)]
async def generate(self, generation):
    raise ServiceError(reason, "refused")
    yield
with mock.patch.object(Admission, "generate", generate):
    sys.exit(main())
"""


def simulation(
    *options: str, program: tuple[str, ...] = ("-m", "simulation.simulate")
) -> "subprocess.CompletedProcess[str]":
    """Run in a process of its own, because it replaces the process's clock."""
    command = [sys.executable, *program, *options]
    return subprocess.run(
        command,
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": "support"},
        capture_output=True,
        text=True,
        timeout=300,  # a limit for a program that hangs; the full length takes one or two minutes
        check=False,
    )


def percent_ok(output: str, which: str) -> float:
    """The percentage of these calls that ended OK, as the simulation prints it."""
    (line,) = (line for line in output.splitlines() if line.endswith(f" {which} calls ended OK"))
    ended_ok, _, calls = line.split()[:3]
    return 100 * int(ended_ok) / int(calls)


@pytest.mark.timeout(330)
@pytest.mark.row("R16b", "the simulation breaks no invariant, whatever the seed")
def test_no_seed_breaks_an_invariant(figures: Row) -> None:
    seeds = figures.some(1000, 100)
    ended = simulation("--seeds", str(seeds))

    assert ended.returncode == 0, ended.stdout
    assert f"0 of {seeds} seeds broke an invariant" in ended.stdout
    figures.count("seeds, of 40 calls each", seeds)
    figures.count("patient calls that ended OK, %", percent_ok(ended.stdout, "patient"), ">=", 25)
    figures.count("of them without a fault, %", percent_ok(ended.stdout, "calm"), ">=", 70)


@pytest.mark.row(
    "R16",
    "Ollama stops, starts and hangs at random for ten minutes: all invariants hold",
)
def test_ten_minutes_of_outages_break_no_invariant(figures: Row) -> None:
    ended = simulation("--seeds", "3", "--minutes", "10", "--calls", "400")

    assert ended.returncode == 0, ended.stdout
    figures.count(
        "calls, in ten virtual minutes of each of 3 seeds",
        int(ended.stdout.split()[-2]),
        ">=",
        1000,
    )
    figures.count("patient calls that ended OK, %", percent_ok(ended.stdout, "patient"), ">=", 25)


@pytest.mark.parametrize("reason", ["QUEUE_FULL", "MODEL_NOT_FOUND", "BACKEND_STALLED"])
def test_a_server_that_refuses_every_call_fails_the_simulation(reason: str) -> None:
    ended = simulation("--seeds", "10", program=("-c", REFUSING, reason))

    assert ended.returncode == 1, ended.stderr
    assert "too few patient calls ended OK" in ended.stdout


def test_the_same_seed_gives_the_same_run() -> None:
    first, again, other = (simulation("--seed", seed).stdout for seed in ("17", "17", "18"))

    assert first.splitlines()[0].startswith("seed 17: ")
    assert first == again
    assert first.splitlines()[0].split()[-1] != other.splitlines()[0].split()[-1]
