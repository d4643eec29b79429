"""References follow Ollama's grammar, and all spellings of one model meet."""

import pytest
from eudai_server.reference import key_of, listed_name, violation_of

GOOD = [
    "llama3.2",
    "llama3.2:1b",
    "library/llama3.2",
    "hf.co/org/repo:Q4_K_M",
    "localhost:5005/a/b",
    "http://localhost:5005/a/b:c",
    "_x",
    "a_b-c.d",
]
BAD = [
    "",
    " ",
    "a b",
    "../a",
    "a/",
    "/a",
    ":tag",
    "a:",
    "a:b:c",
    "a//b",
    "a@sha256:12",
    "a\n",
    "é",
    "a/b/c/d/e",
    "-a",
    "n.s/m",
]


@pytest.mark.parametrize("reference", GOOD)
def test_a_good_reference_passes(reference: str) -> None:
    assert violation_of(reference) is None


@pytest.mark.parametrize("reference", BAD)
def test_a_bad_one_is_said_to_be(reference: str) -> None:
    assert violation_of(reference)


@pytest.mark.parametrize(
    ("reference", "listed"),
    [
        ("gemma3", "gemma3:latest"),
        ("gemma3:270m", "gemma3:270m"),
        ("library/gemma3:270m", "gemma3:270m"),
        ("registry.ollama.ai/library/gemma3", "gemma3:latest"),
        ("https://registry.ollama.ai/someone/model:x", "someone/model:x"),
        ("localhost:5005/a/b", "localhost:5005/a/b:latest"),
        ("hf.co/Org/Repo:Q4_K_M", "hf.co/Org/Repo:Q4_K_M"),
    ],
)
def test_a_model_is_listed_by_its_shortest_name(reference: str, listed: str) -> None:
    assert listed_name(reference) == listed


def test_case_does_not_matter() -> None:
    assert key_of("HF.co/Org/Repo:Q4") == key_of("hf.co/org/repo:q4")
