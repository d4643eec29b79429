"""Replays the corpus of the fuzzer: what was found once stays mended."""

import time
from pathlib import Path

import pytest
from fuzz.targets import CORPUS, TARGETS

INPUTS = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
CPU_S_MAX = 0.1

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_input_of_the_corpus_causes_no_fault(path: Path) -> None:
    data = path.read_bytes()
    target = TARGETS[path.parent.name]
    target(b"")  # start what the target needs
    begin_s = time.process_time()
    target(data)

    assert time.process_time() - begin_s < CPU_S_MAX


def test_every_target_has_a_corpus() -> None:
    assert {path.parent.name for path in INPUTS} == set(TARGETS)
