"""Scripts of the scripted model become tokens that spell them, and no two scripts share a token."""

import re

import pytest
from hypothesis import given, strategies as st
from scripted_model import Script
from scripted_model.model import model_bytes
from scripted_model.script import tokens_of

# Each has a unique beginning, so that the scripts can be distinguished.
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=2, max_size=60))


@given(TEXTS)
def test_tokens_spell_their_script_and_occur_once(texts: list[str]) -> None:
    scripts = {
        str(number): Script(f"script {number:04}: {text}") for number, text in enumerate(texts)
    }
    tokens = tokens_of(scripts)
    every = [token for own in tokens.values() for token in own]

    assert {name: b"".join(own).decode() for name, own in tokens.items()} == {
        name: script.text for name, script in scripts.items()
    }
    assert len(set(every)) == len(every)
    assert all(len(token) > 1 for token in every)


def test_a_tag_stays_whole_unless_it_ends_an_answer() -> None:
    text = "<think>So.</think>[TOOL_CALLS]f<|call|>"
    tokens = tokens_of({"a": Script(text)})["a"]

    assert {b"<think>", b"</think>", b"[TOOL_CALLS]"} <= set(tokens)
    assert not any(re.search(rb"<\|call\|>", token) for token in tokens)


@pytest.mark.parametrize(
    "scripts",
    [
        {"a": Script("Hello"), "b": Script("Hello")},
        {"a": Script("!")},
        {"a": Script(tokens=(b"ha ", b"ha "))},
        {"a": Script(tokens=(b"!",))},
    ],
)
def test_ambiguous_scripts_are_refused(scripts: dict[str, Script]) -> None:
    with pytest.raises(ValueError, match=r"too short|occurs twice"):
        tokens_of(scripts)


def test_the_same_scripts_make_the_same_file() -> None:
    scripts = {"a": Script("Hello there."), "b": Script(tokens=(b"ha ",), repeats=True)}

    assert model_bytes(scripts, {}) == model_bytes(scripts, {})
