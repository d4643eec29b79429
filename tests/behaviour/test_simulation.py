"""The whole server on a virtual clock, before an Ollama and callers that a seed decides. `make simulate` runs a thousand of them."""

import subprocess
import sys
from pathlib import Path

import pytest
from table import Row

pytestmark = pytest.mark.slow

TESTS = Path(__file__).resolve().parents[1]


def simulation(*options: str) -> "subprocess.CompletedProcess[str]":
    """A process of its own, since the clock is the process's."""
    command = [sys.executable, "-m", "simulation.simulate", *options]
    return subprocess.run(
        command, cwd=TESTS, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.timeout(150)
@pytest.mark.row("R16b", "the simulation: no invariant breaks, whatever the seed")
def test_no_seed_breaks_an_invariant(figures: Row) -> None:
    seeds = figures.some(1000, 100)
    ended = simulation("--seeds", str(seeds))

    assert ended.returncode == 0, ended.stdout
    assert f"0 of {seeds} seeds broke an invariant" in ended.stdout
    figures.count("seeds, of 40 calls each", seeds)


@pytest.mark.row(
    "R16",
    "Ollama comes, goes and hangs at random for ten minutes: slots, queue, statuses and texts hold",
)
def test_ten_minutes_of_an_ollama_that_comes_and_goes(figures: Row) -> None:
    ended = simulation("--seeds", "3", "--minutes", "10", "--calls", "400")

    assert ended.returncode == 0, ended.stdout
    figures.count(
        "calls, in ten virtual minutes of each of 3 seeds",
        int(ended.stdout.split()[-2]),
        ">=",
        1000,
    )


def test_a_seed_decides_all_that_happens() -> None:
    first, again, other = (simulation("--seed", seed).stdout for seed in ("17", "17", "18"))

    assert first.splitlines()[0].startswith("seed 17: ")
    assert first == again
    assert first.splitlines()[0].split()[-1] != other.splitlines()[0].split()[-1]
