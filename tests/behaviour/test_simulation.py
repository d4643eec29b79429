"""The whole server on a virtual clock, before an Ollama and callers that a seed decides. `make simulate` runs a thousand of them."""

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def simulation(*options: str) -> "subprocess.CompletedProcess[str]":
    """A process of its own, since the clock is the process's."""
    command = [sys.executable, "-m", "simulation.simulate", *options]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=60, check=False)


def test_no_seed_breaks_an_invariant() -> None:
    ended = simulation("--seeds", "100")

    assert ended.returncode == 0, ended.stdout
    assert "0 of 100 seeds broke an invariant, 4000 calls" in ended.stdout


def test_ten_minutes_of_an_ollama_that_comes_and_goes() -> None:
    ended = simulation("--seeds", "3", "--minutes", "10", "--calls", "400")

    assert ended.returncode == 0, ended.stdout
    assert "1200 calls" in ended.stdout


def test_a_seed_decides_all_that_happens() -> None:
    first, again, other = (simulation("--seed", seed).stdout for seed in ("17", "17", "18"))

    assert first.splitlines()[0].startswith("seed 17: ")
    assert first == again
    assert first.splitlines()[0].split()[-1] != other.splitlines()[0].split()[-1]
