"""Model references are read as Ollama reads them.

tests/system/test_model_names.py compares the recorded readings with a real Ollama.
"""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from eudai_server.core.errors import CloudDisabledError
from eudai_server.core.model_name import (
    InvalidModelNameError,
    ModelName,
    is_reachable,
    key_of,
    model_name_from,
    violation_of,
)
from hypothesis import given, strategies as st

READINGS: dict[str, str] = json.loads(Path(__file__).with_name("model_names.json").read_text())
# Ollama reads any text before "://" as a scheme, and ignores it.
STRICTER = {"HTTP://h/a/b", "http:///a/b", "ftp://h/a/b", "://h/a/b", "x y://h/a/b"}

part = st.text("aB09_-", min_size=1, max_size=8).filter(lambda text: text[0] != "-")
names = st.builds(ModelName, part, part, part, part).filter(
    lambda name: not name.tag.lower().endswith(("cloud", "local"))
)


@pytest.mark.parametrize("reference", READINGS)
def test_a_reference_is_read_as_ollama_reads_it(reference: str) -> None:
    expected = READINGS[reference]
    if reference in STRICTER or expected == "too long":
        expected = "invalid"
    match expected:
        case "invalid":
            with pytest.raises(InvalidModelNameError):
                model_name_from(reference)
        case "cloud":
            with pytest.raises(CloudDisabledError):
                model_name_from(reference)
        case listed:
            assert model_name_from(reference).listed == listed


@pytest.mark.parametrize(
    "reference", [each for each, reading in READINGS.items() if ":" in reading]
)
def test_the_key_agrees_with_the_parsed_name(reference: str) -> None:
    if reference not in STRICTER:
        assert key_of(reference) == model_name_from(reference).key


@pytest.mark.parametrize("reference", READINGS)
def test_every_refused_reference_but_a_cloud_name_is_a_violation(reference: str) -> None:
    refused = READINGS[reference] in ("invalid", "too long") or reference in STRICTER

    assert bool(violation_of(reference)) is refused


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("", "is required"),
        ("m" * 513, "512"),
        ("a@sha256:12", "digest"),
        ("a:local:cloud", "more than one"),
        ("n.s/m", "namespace"),
        ("h:1/n/m m", "its model"),
        ("a:-", "its tag"),
    ],
)
def test_a_violation_says_what_to_change(reference: str, words: str) -> None:
    assert words in (violation_of(reference) or "")


def test_the_parts_have_their_defaults() -> None:
    assert model_name_from("foo") == ModelName("registry.ollama.ai", "library", "foo", "latest")
    assert model_name_from("http://H:1/n/m:t:local") == ModelName("H:1", "n", "m", "t")
    assert model_name_from("H:1/n/m").registry == "h:1"


@given(names)
def test_the_listed_name_is_read_as_the_same_model(name: ModelName) -> None:
    again = model_name_from(name.listed)

    assert (again.key, again.registry) == (name.key, name.registry)
    assert again.listed == name.listed
    assert model_name_from(f"{name.listed}:local") == again
    assert is_reachable(name.listed)


@given(names)
def test_case_does_not_matter(name: ModelName) -> None:
    assert key_of(name.listed.upper()) == key_of(name.listed) == name.key


@given(st.text(max_size=20))
def test_any_text_has_a_key(text: str) -> None:
    assert key_of(text) == key_of(text).lower()


@pytest.mark.parametrize("listed", ["foo:local", "foo:cloud", "foo:1b-cloud"])
def test_a_model_whose_tag_is_a_source_is_not_reachable(listed: str) -> None:
    assert not is_reachable(listed)
    with suppress(CloudDisabledError):
        assert model_name_from(listed).key == "foo:latest"
