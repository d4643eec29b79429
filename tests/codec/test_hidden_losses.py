"""Losses that Ollama does not report: repetitions, lost tool calls, rounded numbers."""

import time

import pytest
from eudai_server.core.errors import Reason
from eudai_server.core.events import Finished, GenerationWarning, GenerationWarningCode, ToolCall
from eudai_server.ollama.wire.generation_stream import StreamDecoder
from eudai_server.ollama.wire.tool_arguments import CHECKED_CHARS_MAX, alteration_warning
from scripted_ollama import done, line


def text_line(text: str) -> bytes:
    """A line of a conversation."""
    return line(message={"content": text}, done=False)


def thought_line(text: str) -> bytes:
    """A line with reasoning."""
    return line(message={"content": "", "thinking": text}, done=False)


def warnings_of(*lines: bytes, **options: object) -> list[GenerationWarningCode]:
    """The warnings for an answer with tools."""
    decoder = StreamDecoder("m", has_tools=True, **options)  # type: ignore[arg-type]
    events = decoder.feed(b"".join(lines))
    assert isinstance(events[-1], Finished)
    return [event.code for event in events if isinstance(event, GenerationWarning)]


@pytest.mark.parametrize("piece", ["ha ", " ha", "\n"])
@pytest.mark.parametrize("write", [text_line, thought_line])
def test_an_end_after_a_repetition_has_its_own_reason(piece: str, write: object) -> None:
    decoder = StreamDecoder("m", hide_reasoning=True)
    decoder.feed(text_line("It is so funny:") + write(piece) * 31)  # type: ignore[operator]
    decoder.close()

    assert decoder.failure
    assert decoder.failure.reason is Reason.REPETITION_STOPPED
    assert "repeat_penalty" in decoder.failure.message


@pytest.mark.parametrize("lines", [text_line("ha ") * 29, text_line("ha ") * 31 + text_line("!")])
def test_any_other_end_is_an_interruption(lines: bytes) -> None:
    decoder = StreamDecoder("m")
    decoder.feed(lines)
    decoder.close()

    assert decoder.failure
    assert decoder.failure.reason is Reason.BACKEND_STREAM_INTERRUPTED


LOST = [GenerationWarningCode.TOOL_CALL_LOST]
FIVE_WORDS = b"".join(text_line(f" word{number}") for number in range(5))


def test_an_empty_answer_of_many_tokens_is_a_lost_tool_call() -> None:
    assert warnings_of(done(output=5)) == LOST
    # An empty answer of few tokens is not a loss.
    assert warnings_of(done(output=2)) == []


def test_missing_tokens_are_a_lost_tool_call() -> None:
    assert warnings_of(FIVE_WORDS, done(output=40)) == LOST
    assert warnings_of(thought_line("Hm"), done(output=40), hide_reasoning=True) == LOST
    # The tags around an answer are tokens too.
    assert warnings_of(FIVE_WORDS, done(output=16)) == []


def test_explained_missing_tokens_are_not_a_loss() -> None:
    assert warnings_of(text_line("🌧" * 10), done(output=40)) == []
    assert warnings_of(FIVE_WORDS, done("length", output=40)) == []
    assert (
        warnings_of(FIVE_WORDS, done(output=40), stop_sequences=["END OF THE WHOLE ANSWER!!"]) == []
    )
    call = line(message={"tool_calls": [{"function": {"name": "f"}}]}, done=False)
    assert warnings_of(FIVE_WORDS, call, done(output=40)) == []


def test_without_tools_no_tool_call_is_lost() -> None:
    events = StreamDecoder("m").feed(FIVE_WORDS + done(output=40))

    assert not [event for event in events if isinstance(event, GenerationWarning)]


@pytest.mark.parametrize(
    "arguments",
    [
        '{"a":9007199254740992}',
        '{"a":-9007199254740992}',
        '{"a":[{"b":9223372036854776000}]}',
        '{"a":1.2345678901234568e+29}',
        '{"a":1e+21}',
        '{"a":"K\\ufffdln"}',
        '{"a":"K\ufffdln"}',
    ],
)
def test_a_number_that_may_be_rounded_brings_a_warning(arguments: str) -> None:
    warning = alteration_warning(ToolCall("id", "f", arguments))

    assert warning
    assert (warning.code, warning.tool_call_id) == (GenerationWarningCode.TOOL_CALL_ALTERED, "id")


@pytest.mark.parametrize(
    "arguments",
    [
        '{"a":9007199254740991}',
        # A parser that rounds would not send these.
        '{"a":9007199254740993}',
        '{"a":123456789012345678901234567890}',
        '{"a":0.1234567890123456789}',
        '{"a":1e-7}',
        '{"a":5e3}',
        # These are texts.
        '{"a":"9007199254740992"}',
        '{"a":"\\"9007199254740992"}',
        '{"9007199254740992":"1e+21"}',
    ],
)
def test_an_exact_number_brings_no_warning(arguments: str) -> None:
    assert alteration_warning(ToolCall("id", "f", arguments)) is None


@pytest.mark.parametrize("piece", ['"', "\\", "1", "1.1e", "-", "9007199254740993,"])
def test_the_time_of_the_check_is_linear_in_its_input(piece: str) -> None:
    begin_s = time.monotonic()
    alteration_warning(ToolCall("id", "f", piece * (CHECKED_CHARS_MAX // len(piece))))

    # It takes some ten milliseconds; if it were quadratic, it would take minutes.
    assert time.monotonic() - begin_s < 5
