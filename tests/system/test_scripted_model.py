"""Reasoning, stop sequences, log probabilities, images and long answers, by a scripted model."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from eudai.v1 import content_pb2, generation_service_pb2 as pb, options_pb2
from png import png
from recorded_answers import Recording
from refusal import refusal
from replay import replaying
from scripted_model import Script, write_model, write_projector
from scripted_model.creation import created
from scripted_model.dialects import DIALECTS, JINJA_TEMPLATE
from serving import Server, collect, config_for, kinds, serving, text_of

MODEL = "eudai-scripted:latest"
NATIVE = "eudai-scripted-native:latest"
SEEING = "eudai-scripted-seeing:latest"
CAPABILITIES = {
    MODEL: ["completion", "tools", "thinking"],
    NATIVE: ["completion", "tools"],
    SEEING: ["completion", "tools", "thinking", "vision"],
}
TOOLS = [content_pb2.Tool(name="look")]
SCRIPTS = {
    "hello": Script("Hello. This is a test."),
    "think": Script("<think>I should greet.</think>Good morning."),
    "call": Script('<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'),
    "result": Script("You are well."),
    "emoji": Script(tokens=(b"Rain \xf0\x9f", b"\x8c\xa7", b"\xef\xb8\x8f, then", b" sun")),
    "laugh": Script(tokens=(b"ha ",), repeats=True),
    "json": Script('{"name": "Paris", "large": true}'),
}


@pytest.fixture(scope="module")
def models(real_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The scripted model with a Go template, with its own template, and with a projector."""
    folder = tmp_path_factory.mktemp("scripted")
    write_model(folder / "model.gguf", SCRIPTS, {})
    # A separate file, because Ollama uses one runner for all models of a file.
    write_model(folder / "native.gguf", SCRIPTS, {"tokenizer.chat_template": JINJA_TEMPLATE})
    write_projector(folder / "projector.gguf")
    template = DIALECTS["template"].options
    with (
        created(real_url, MODEL, folder / "model.gguf", **template),
        created(real_url, NATIVE, folder / "native.gguf"),
        created(real_url, SEEING, folder / "model.gguf", folder / "projector.gguf", **template),
    ):
        yield


@pytest.fixture(scope="module")
def recording(
    request: pytest.FixtureRequest,
    models: None,  # noqa: ARG001 - they are recorded
    real_url: str,
) -> Iterator[Recording]:
    """The recorded answers that the double plays."""
    recording = Recording("test_scripted_model", real_url if request.config.option.record else None)
    yield recording
    recording.save()


@pytest.fixture(params=["real", "double"])
async def server(
    request: pytest.FixtureRequest, recording: Recording, real_url: str
) -> AsyncIterator[Server]:
    """A server in front of the real Ollama, and one in front of the double."""
    if request.param == "double":
        async with replaying(recording, CAPABILITIES) as server:
            yield server
    else:
        async with serving(config_for(real_url)) as server:
            await server.until("", "SERVING")
            yield server


def play(name: str, *media: bytes, mime_type: str = "image/png") -> pb.Conversation:
    """A user message that makes the model write a script."""
    parts = [content_pb2.Part(text=f"<|play:{name}|>")]
    parts += (
        content_pb2.Part(media=content_pb2.Media(mime_type=mime_type, data=data)) for data in media
    )
    message = content_pb2.Message(role=content_pb2.ROLE_USER, parts=parts)
    return pb.Conversation(messages=[message])


def reasoning_of(events: list[pb.GenerateResponse]) -> str:
    """The reasoning of an answer."""
    return "".join(event.delta.reasoning for event in events)


INPUTS = [{"conversation": play("think")}, {"prompt": "<|play:think|>"}]


@pytest.mark.parametrize("asked", INPUTS, ids=["chat", "generate"])
@pytest.mark.parametrize("effort", ["UNSPECIFIED", "DEFAULT", "LOW", "MEDIUM", "HIGH", "MAX"])
async def test_reasoning_arrives_before_the_answer(
    server: Server, asked: dict[str, Any], effort: str
) -> None:
    options = pb.ReasoningOptions(effort=pb.ReasoningEffort.Value(f"REASONING_EFFORT_{effort}"))
    events = await collect(server, model=MODEL, reasoning=options, **asked)

    assert (reasoning_of(events), text_of(events)) == ("I should greet.", "Good morning.")
    channels = [event.delta.WhichOneof("channel") for event in events if event.HasField("delta")]
    assert channels.index("text") == channels.count("reasoning")
    assert events[-1].finished.reason == pb.FINISH_REASON_STOP


@pytest.mark.parametrize("asked", INPUTS, ids=["chat", "generate"])
async def test_hidden_reasoning_is_counted_but_not_sent(
    server: Server, asked: dict[str, Any]
) -> None:
    options = pb.ReasoningOptions(hide=True)
    events = await collect(server, model=MODEL, reasoning=options, tools=[], **asked)

    assert (reasoning_of(events), text_of(events)) == ("", "Good morning.")
    assert events[-1].finished.usage.output_tokens > 6


async def test_without_reasoning_the_text_arrives_unchanged(server: Server) -> None:
    options = pb.ReasoningOptions(effort=pb.REASONING_EFFORT_NONE)
    events = await collect(server, model=MODEL, reasoning=options, conversation=play("think"))

    assert (reasoning_of(events), text_of(events)) == ("", SCRIPTS["think"].text)


async def test_a_tool_result_leads_to_an_answer(server: Server) -> None:
    asked = play("call")
    request = pb.GenerateRequest(model=MODEL, conversation=asked, tools=TOOLS)
    answer = await server.generation.GenerateOnce(
        pb.GenerateOnceRequest(request=request), timeout=60
    )
    made = answer.generation.message
    result = content_pb2.Message(
        role=content_pb2.ROLE_TOOL,
        tool_call_id=made.tool_calls[0].id,
        parts=[content_pb2.Part(text="<|play:result|>")],
    )
    turns = pb.Conversation(messages=[*asked.messages, made, result])
    events = await collect(server, model=MODEL, conversation=turns, tools=TOOLS)

    assert answer.generation.finished.reason == pb.FINISH_REASON_TOOL_CALLS
    assert [(call.name, call.arguments_json) for call in made.tool_calls] == [("look", "{}")]
    assert text_of(events) == "You are well."


@pytest.mark.parametrize("asked", [{"conversation": play("hello")}, {"prompt": "<|play:hello|>"}])
async def test_a_stop_sequence_ends_the_answer_before_it(
    server: Server, asked: dict[str, Any]
) -> None:
    stop = options_pb2.StopOptions(sequences=["is a"])
    events = await collect(server, model=MODEL, stop=stop, **asked)

    assert text_of(events) == "Hello. This "
    assert events[-1].finished.reason == pb.FINISH_REASON_STOP


@pytest.mark.parametrize("asked", [{"conversation": play("hello")}, {"prompt": "<|play:hello|>"}])
async def test_log_probabilities_spell_the_answer(server: Server, asked: dict[str, Any]) -> None:
    events = await collect(server, model=MODEL, logprobs=pb.LogprobOptions(alternatives=2), **asked)
    tokens = [logprob for event in events for logprob in event.delta.logprobs]

    assert b"".join(token.chosen.token_bytes for token in tokens).decode() == SCRIPTS["hello"].text
    # The model gives its token a probability of 1.
    assert all(-0.01 <= token.chosen.logprob <= 0 for token in tokens)
    assert {len(token.top) for token in tokens} == {2}


async def test_log_probabilities_beside_tools_depend_on_the_parser(server: Server) -> None:
    asked = {"conversation": play("call"), "tools": TOOLS, "logprobs": pb.LogprobOptions()}
    events = await collect(server, model=MODEL, **asked)
    refused = await refusal(server, model=NATIVE, **asked)

    assert "tool_call" in kinds(events)
    assert refused.reason == "CAPABILITY_UNSUPPORTED"
    assert refused.details["ErrorInfo"].metadata["capability"] == "logprobs"


async def test_an_incomplete_character_is_held_back(server: Server) -> None:
    whole = await collect(server, model=MODEL, conversation=play("emoji"))
    stop = options_pb2.StopOptions(max_output_tokens=1)
    cut = await collect(server, model=MODEL, conversation=play("emoji"), stop=stop)

    assert text_of(whole) == "Rain 🌧️, then sun"
    assert not any("\ufffd" in event.delta.text for event in whole)
    assert text_of(cut) in ("", "Rain ")
    assert cut[-1].finished.reason == pb.FINISH_REASON_LENGTH


async def test_a_json_answer_arrives_unchanged(server: Server) -> None:
    shape = pb.OutputFormat(any_json=pb.AnyJsonFormat())
    events = await collect(server, model=MODEL, conversation=play("json"), format=shape)

    assert text_of(events) == SCRIPTS["json"].text
    assert "warning" not in kinds(events)


async def test_the_error_for_a_repetition_says_what_to_do(server: Server) -> None:
    refused = await refusal(server, model=MODEL, conversation=play("laugh"))

    assert refused.reason == "REPETITION_STOPPED"
    assert "repeat_penalty" in refused.message
    assert refused.trailers["grpc-retry-pushback-ms"] == "-1"
    assert refused.details["GenerationFailure"].output_sent


async def test_a_long_answer_arrives_whole(fast_model: str, real_server: Server) -> None:
    stop = options_pb2.StopOptions(max_output_tokens=500)
    events = await collect(real_server, model=fast_model, prompt="Count.", stop=stop)

    assert text_of(events).split() == [f"n{number % 100}" for number in range(500)]
    assert events[-1].finished.usage.output_tokens == 500
    assert events[-1].finished.reason == pb.FINISH_REASON_LENGTH


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("tools", [[], TOOLS], ids=["without tools", "with tools"])
async def test_images_reach_the_model(
    server: Server, images: int, tools: list[content_pb2.Tool]
) -> None:
    script = "call" if tools else "hello"
    without = await collect(server, model=SEEING, conversation=play(script), tools=tools)
    events = await collect(
        server, model=SEEING, conversation=play(script, *[png()] * images), tools=tools
    )
    more = events[-1].finished.usage.input_tokens - without[-1].finished.usage.input_tokens

    assert text_of(events) == ("" if tools else SCRIPTS["hello"].text)
    assert ("tool_call" in kinds(events)) == bool(tools)
    # The projector converts an image to four tokens.
    assert more == 4 * images


async def test_an_image_that_cannot_be_read_is_refused(server: Server) -> None:
    broken = b"\x89PNG\r\n\x1a\n" + b"nonsense"
    refused = await refusal(server, model=SEEING, conversation=play("hello", broken))

    assert refused.reason == "INVALID_REQUEST"
    assert "image" in refused.message


async def test_an_image_for_a_model_without_vision_is_refused(server: Server) -> None:
    refused = await refusal(server, model=MODEL, conversation=play("hello", png()))

    assert refused.reason == "CAPABILITY_UNSUPPORTED"
