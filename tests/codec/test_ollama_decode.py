"""Decoding the stream of a generation: the same events, however its bytes are cut."""

import json

import pytest
from eudai_server.core.errors import Reason
from eudai_server.core.events import Channel, Delta, Finished, FinishReason
from eudai_server.ollama.wire.generation_stream import Output, StreamDecoder
from eudai_server.ollama.wire.lines import LINE_BYTES_MAX
from hypothesis import given, settings, strategies as st
from scripted_ollama import done, line

LOGPROBS = st.lists(
    st.builds(
        lambda token, value: {"token": token, "logprob": value},
        st.text(max_size=3),
        st.floats(-9, 0),
    ),
    max_size=2,
)
LINES = st.lists(
    st.builds(
        lambda text, thinking, logprobs: line(
            response=text, thinking=thinking, done=False, logprobs=logprobs
        ),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.text(max_size=3),
        LOGPROBS,
    ),
    max_size=12,
)

Whole = tuple[list[tuple[Channel, str, list[object]]], object, Reason | None]


def decode(pieces: list[bytes]) -> Whole:
    """Decode these pieces; adjacent deltas of one channel are joined."""
    decoder = StreamDecoder("m")
    events: list[Output] = []
    for piece in pieces:
        events += decoder.feed(piece)
    events += decoder.close()
    joined: list[tuple[Channel, str, list[object]]] = []
    for event in events:
        if isinstance(event, Delta):
            assert event.text, "a delta is never empty"
            if joined and joined[-1][0] is event.channel:
                channel, text, logprobs = joined.pop()
                joined.append((channel, text + event.text, [*logprobs, *event.logprobs]))
            else:
                joined.append((event.channel, event.text, list(event.logprobs)))
    finished = next((event for event in events if isinstance(event, Finished)), None)
    assert decoder.finished is finished
    return joined, finished, decoder.failure.reason if decoder.failure else None


@pytest.mark.slow
@settings(max_examples=1000)
@given(st.data(), LINES, st.booleans())
def test_the_events_do_not_depend_on_how_the_bytes_are_cut(
    data: st.DataObject,
    lines: list[bytes],
    whole: bool,
) -> None:
    stream = b"".join([*lines, done()] if whole else lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [
        stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
    ]

    expected = decode([stream])

    assert decode(pieces) == expected
    assert (expected[2] is None) == whole


@pytest.mark.slow
@settings(max_examples=1000)
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_end_with_an_event_or_a_failure(pieces: list[bytes]) -> None:
    _, finished, reason = decode(pieces)

    assert (finished is None) == (reason is not None)


def test_a_stream_may_arrive_one_byte_at_a_time() -> None:
    stream = line(response="Grüße", done=False) + done()

    assert decode([bytes([byte]) for byte in stream]) == decode([stream])


def test_the_last_line_needs_no_line_feed() -> None:
    assert decode([done().rstrip()])[2] is None


def test_events_before_a_bad_line_are_kept() -> None:
    decoder = StreamDecoder("m")
    events = decoder.feed(line(response="kept", done=False) + b"{nonsense}\n")

    assert [event.text for event in events if isinstance(event, Delta)] == ["kept"]
    assert decoder.failure is not None
    assert decoder.feed(done()) == []


def test_the_length_of_a_line_is_bounded() -> None:
    for stream in (b"x" * (LINE_BYTES_MAX + 1), b'"' + b"x" * LINE_BYTES_MAX + b'"\n'):
        assert decode([stream])[2] is Reason.BACKEND_FAILURE


def test_unknown_fields_are_ignored() -> None:
    stream = (
        json.dumps({"response": "a", "new": {"deep": [1]}, "done": False}).encode() + b"\n" + done()
    )

    assert decode([stream])[0] == [(Channel.TEXT, "a", [])]


@pytest.mark.parametrize(
    ("word", "tokens", "expected"),
    [
        ("stop", 5, FinishReason.STOP),
        ("length", 10, FinishReason.LENGTH),
        ("length", 93, FinishReason.CONTEXT_LENGTH),
        ("length", 5, FinishReason.LENGTH),
        ("new", 5, FinishReason.UNSPECIFIED),
    ],
)
def test_the_finish_reason_names_the_limit_that_was_reached(
    word: str, tokens: int, expected: FinishReason
) -> None:
    limit = 10 if tokens == 10 else None
    finished = StreamDecoder("m", context_length=100, max_output_tokens=limit).feed(
        done(word, prompt=7, output=tokens)
    )[0]

    assert isinstance(finished, Finished)
    assert (finished.reason, finished.backend_reason) == (expected, word)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (b'"model requires more system memory than is available"', Reason.INSUFFICIENT_MEMORY),
        (
            b'{"message":"request (9 tokens) exceeds the available context size (8 tokens)"}',
            Reason.CONTEXT_LENGTH_EXCEEDED,
        ),
        (b'"something new"', Reason.BACKEND_FAILURE),
        (b"7", Reason.BACKEND_FAILURE),
    ],
)
def test_an_error_line_has_the_reason_of_an_error_response(error: bytes, reason: Reason) -> None:
    assert decode([line(response="a", done=False), b'{"error":' + error + b"}\n"])[2] is reason


def test_a_null_error_is_not_a_failure() -> None:
    assert decode([b'{"error":null,"response":"a","done":false}\n', done()])[2] is None


def test_the_error_of_a_line_takes_precedence() -> None:
    assert (
        decode([b'{"error":"model \\"x\\" not found","response":"x","done":true}\n'])[2]
        is Reason.MODEL_NOT_FOUND
    )
