"""A generation is a stream with rules: one pass, cancelled by leaving, complete or an error."""

import functools
import json
import signal
import threading
from typing import Any

import eudai
import pytest
from eudai.requests import CallOptions, GenerateOptions, LoadFields, generate_request
from eudai.v1 import content_pb2, generation_service_pb2 as pb, options_pb2
from google.protobuf.json_format import MessageToDict
from scripted_services import ScriptedServices, endless, failing

grpc_max_workers = 8
MODEL = "gemma3:270m"
STARTED = pb.GenerateResponse(started=pb.Started(generation_id="g1", model=MODEL))

# Each option, a value, and the part of the request that it becomes.
OPTIONS: list[tuple[str, Any, dict[str, Any]]] = [
    ("system", "s", {"system": "s"}),
    ("tool_choice", "none", {"toolChoice": "TOOL_CHOICE_NONE"}),
    ("raw", True, {"rawPrompt": "p"}),
    ("suffix", "s", {"infill": {"prefix": "p", "suffix": "s"}}),
    ("temperature", 0, {"sampling": {"temperature": 0.0}}),
    ("top_k", 3, {"sampling": {"topK": 3}}),
    ("top_p", 0.5, {"sampling": {"topP": 0.5}}),
    ("min_p", 0.5, {"sampling": {"minP": 0.5}}),
    ("typical_p", 0.5, {"sampling": {"typicalP": 0.5}}),
    ("repeat_penalty", 1.5, {"sampling": {"repeatPenalty": 1.5}}),
    ("repeat_last_n", -1, {"sampling": {"repeatLastN": -1}}),
    ("presence_penalty", 1.5, {"sampling": {"presencePenalty": 1.5}}),
    ("frequency_penalty", 1.5, {"sampling": {"frequencyPenalty": 1.5}}),
    ("seed", 7, {"sampling": {"seed": 7}}),
    ("max_output_tokens", 5, {"stop": {"maxOutputTokens": 5}}),
    ("stop_sequences", ["a", "b"], {"stop": {"sequences": ["a", "b"]}}),
    ("stop_sequences", "ab", {"stop": {"sequences": ["ab"]}}),
    ("format", "json", {"format": {"anyJson": {}}}),
    ("format", {"b": 1, "a": 2}, {"format": {"jsonSchema": '{"b": 1, "a": 2}'}}),
    ("reasoning", "high", {"reasoning": {"effort": "REASONING_EFFORT_HIGH"}}),
    ("hide_reasoning", True, {"reasoning": {"hide": True}}),
    ("logprobs", 2, {"logprobs": {"alternatives": 2}}),
    ("context_overflow", "drop_oldest", {"contextOverflow": "CONTEXT_OVERFLOW_DROP_OLDEST"}),
    ("load", {"threads": 2, "keep_alive_s": 1.5}, {"load": {"threads": 2, "keepAlive": "1.500s"}}),
    ("expected_digest", "sha256:0", {"expectedDigest": "sha256:0"}),
    ("progress", True, {"events": {"progress": True}}),
    ("heartbeat_interval_s", 2, {"events": {"heartbeatInterval": "2s"}}),
    ("flush_interval_s", 0.25, {"events": {"flushInterval": "0.250s"}}),
    ("labels", {"a": "b"}, {"labels": {"a": "b"}}),
    ("time_budget_s", 3, {"timeBudget": "3s"}),
]


@pytest.mark.parametrize(("name", "value", "expected"), OPTIONS)
def test_an_option_becomes_its_field(name: str, value: Any, expected: dict[str, Any]) -> None:
    fields = MessageToDict(generate_request(MODEL, "p", {name: value}))

    assert expected.items() <= fields.items()


def test_every_option_is_tested_and_every_field_has_an_option() -> None:
    options = {name for name, _, _ in OPTIONS} | {"media", "tools", *CallOptions.__annotations__}
    load = {each.name for each in options_pb2.LoadOptions.DESCRIPTOR.fields}

    assert options == set(GenerateOptions.__annotations__)
    assert {each.name for each in options_pb2.SamplingOptions.DESCRIPTOR.fields} <= options
    assert load == {
        name.replace("keep_alive_s", "keep_alive") for name in LoadFields.__annotations__
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temprature": 1}, "unknown option 'temprature'; did you mean 'temperature'?"),
        ({"temperature": "hot"}, "temperature: "),
        ({"max_output_tokens": 1 << 40}, "max_output_tokens: "),
        ({"reasoning": "hard"}, "reasoning: 'hard' is not one of none, default, low"),
        ({"time_budget_s": float("nan")}, "time_budget_s: "),
        ({"format": int}, "format: must be 'json', a JSON Schema"),
        ({"load": {"thread": 1}}, "load: unknown option 'thread'; did you mean 'threads'?"),
        ({"media": [b"GIF89a"]}, "media: not a PNG, JPEG, WebP, WAV or MP3 file"),
        ({"media": ["/nowhere.png"]}, "/nowhere.png"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError, OSError)) as failure:
        generate_request(MODEL, "p", options)

    assert message in str(failure.value)


@pytest.mark.parametrize(
    ("model", "prompt", "name"), [(1, "p", "model"), ("m", 1, "prompt"), ("m", ["p"], "prompt")]
)
def test_a_wrong_model_or_prompt_is_named(model: Any, prompt: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name}: "):
        generate_request(model, prompt, {})


def test_media_and_tools_make_the_prompt_a_conversation() -> None:
    tool = content_pb2.Tool(name="now")
    request = generate_request(MODEL, "p", {"media": [b"RIFF....WAVE"], "tools": [tool]})

    (message,) = request.conversation.messages
    assert [part.WhichOneof("kind") for part in message.parts] == ["text", "media"]
    assert message.parts[1].media.mime_type == "audio/wav"
    assert list(request.tools) == [tool]


def test_messages_are_a_conversation() -> None:
    request = generate_request(MODEL, [eudai.user_message("p")], {})

    assert request.conversation.messages[0].role == content_pb2.ROLE_USER
    with pytest.raises(ValueError, match="need a prompt that is a str"):
        generate_request(MODEL, [eudai.user_message("p")], {"raw": True})


def test_leaving_the_block_cancels(client: eudai.Client, services: ScriptedServices) -> None:
    services.on["Generate"] = endless
    with client.generate(MODEL, "hi") as stream:
        assert next(stream.text) == "n"

    assert services.ended.wait(10)
    with pytest.raises(eudai.CallCancelledError):
        stream.result()
    assert stream.partial.text.startswith("n")


def test_an_exception_in_the_block_cancels_and_passes(
    client: eudai.Client, services: ScriptedServices
) -> None:
    services.on["Generate"] = endless

    with pytest.raises(StopIteration), client.generate(MODEL, "hi") as stream:
        next(iter(next(stream.text)[1:]))
    assert services.ended.wait(10)


def test_an_interrupt_leaves_the_client_usable(
    client: eudai.Client, services: ScriptedServices
) -> None:
    for moment_ms in range(30):
        services.on["Generate"] = endless
        with pytest.raises(KeyboardInterrupt):
            generate_and_interrupt(client, moment_ms / 1000)
        services.on.clear()
        with client.generate(MODEL, "hi", timeout_s=20) as stream:
            assert stream.result().text == "Hello there!"


def generate_and_interrupt(client: eudai.Client, delay_s: float) -> None:
    """Read a stream, and press Ctrl-C after a time."""
    main = threading.main_thread().ident or 0
    interrupt = functools.partial(signal.pthread_kill, main, signal.SIGINT)
    with client.generate(MODEL, "hi") as stream:
        threading.Timer(delay_s, interrupt).start()
        stream.result()


def test_a_stream_is_iterated_once(client: eudai.Client) -> None:
    with client.generate(MODEL, "hi") as stream:
        assert "".join(stream.text) == "Hello there!"
        with pytest.raises(RuntimeError, match="already been iterated"):
            list(stream.events)
        assert stream.result().text == "Hello there!"


def test_a_result_reads_what_is_left(client: eudai.Client) -> None:
    with client.generate(MODEL, "hi") as stream:
        next(stream.text)
        assert stream.result().text == "Hello there!"


def test_a_stream_cannot_be_used_outside_its_block(
    client: eudai.Client, services: ScriptedServices
) -> None:
    stream = client.generate(MODEL, "hi")

    for use in (lambda: stream.text, lambda: stream.events, stream.result):
        with pytest.raises(RuntimeError, match="the call has not started"):
            use()
    assert services.requests == []
    with stream:
        assert stream.result().text == "Hello there!"
    with pytest.raises(RuntimeError, match="already been used"), stream:
        pass


def test_a_failure_has_the_output_so_far(client: eudai.Client, services: ScriptedServices) -> None:
    services.on["Generate"] = failing

    with client.generate(MODEL, "hi") as stream:
        texts = stream.text
        assert next(texts) == "partial"
        with pytest.raises(eudai.BackendStreamInterruptedError) as failure:
            next(texts)
    assert failure.value.partial
    assert failure.value.partial.text == "partial"
    assert failure.value.partial.finish_reason == ""


def test_a_stream_without_its_last_event_is_an_error(
    client: eudai.Client, services: ScriptedServices
) -> None:
    services.on["Generate"] = lambda _request, _context: iter([STARTED])

    with (
        client.generate(MODEL, "hi") as stream,
        pytest.raises(eudai.IncompleteResponseError) as failure,
    ):
        list(stream.text)
    assert failure.value.partial
    assert failure.value.partial.generation_id == "g1"


def test_an_event_of_an_unknown_kind_is_ignored(
    client: eudai.Client, services: ScriptedServices
) -> None:
    unknown = pb.GenerateResponse.FromString(b"\xfa\x01\x00")  # a field with number 31
    finished = pb.GenerateResponse(finished=pb.Finished(reason=99))  # type: ignore[arg-type]
    services.on["Generate"] = lambda _request, _context: iter([STARTED, unknown, finished])

    with client.generate(MODEL, "hi") as stream:
        assert list(stream.text) == []
        assert stream.result().finish_reason == "UNKNOWN_99"


def test_a_timeout_of_a_call_is_its_own(client: eudai.Client, services: ScriptedServices) -> None:
    services.on["Generate"] = endless

    with (
        pytest.raises(eudai.DeadlineExceededError, match="allow it more time"),
        client.generate(MODEL, "hi", timeout_s=0.2) as stream,
    ):
        list(stream.text)
    with pytest.raises(eudai.ConfigError, match="timeout_s must be a number of seconds above 0"):
        client.generate(MODEL, "hi", timeout_s=0)


def test_all_kinds_of_output_are_in_the_result(
    client: eudai.Client, services: ScriptedServices
) -> None:
    logprob = pb.TokenLogprob(chosen=pb.Logprob(token_bytes=b"a", logprob=-0.5))
    call = content_pb2.ToolCall(id="c", name="f", arguments_json="{}")
    code = pb.GENERATION_WARNING_CODE_TOOL_CALL_LOST
    warning = pb.GenerationWarning(code=code, message="lost", field="tools", tool_call_id="c")
    finished = pb.Finished(reason=pb.FINISH_REASON_TOOL_CALLS, logprobs=[logprob])
    deltas = pb.Delta(reasoning="why", logprobs=[logprob]), pb.Delta(text="a", logprobs=[logprob])
    services.on["Generate"] = lambda _request, _context: iter(
        [
            STARTED,
            *(pb.GenerateResponse(delta=delta) for delta in deltas),
            pb.GenerateResponse(tool_call=call),
            pb.GenerateResponse(warning=warning),
            pb.GenerateResponse(finished=finished),
        ]
    )
    generation = pb.Generation(
        started=STARTED.started,
        message=content_pb2.Message(
            parts=[content_pb2.Part(reasoning="why"), content_pb2.Part(text="a")], tool_calls=[call]
        ),
        logprobs=[logprob],
        reasoning_logprobs=[logprob],
        warnings=[warning],
        finished=finished,
    )
    services.on["GenerateOnce"] = lambda _request, _context: pb.GenerateOnceResponse(
        generation=generation
    )

    with client.generate(MODEL, "hi") as stream:
        result = stream.result()
    assert result == client.generate_once(MODEL, "hi")
    assert (result.text, result.reasoning, result.finish_reason) == ("a", "why", "TOOL_CALLS")
    assert result.tool_calls == (eudai.ToolCall("c", "f", "{}"),)
    assert result.warnings == (eudai.GenerationWarning("TOOL_CALL_LOST", "lost", "tools", "c"),)
    assert (len(result.logprobs), len(result.reasoning_logprobs)) == (2, 1)
    assert result.message.tool_calls[0] == call


def test_a_request_has_an_id_of_its_caller(client: eudai.Client) -> None:
    result = client.generate_once(MODEL, "hi", request_id="r-1")

    assert (result.request_id, result.seed, result.ollama_version) == ("r-1", 7, "0.32.15")
    with pytest.raises(eudai.ConfigError, match="eudai-request-id"):
        client.generate_once(MODEL, "hi", request_id="r\n1")


def test_every_field_of_usage_and_timings_has_its_attribute() -> None:
    assert set(eudai.Usage.__annotations__) == set(pb.Usage.DESCRIPTOR.fields_by_name)
    assert set(eudai.Timings.__annotations__) == {
        f"{name}_s" for name in pb.Timings.DESCRIPTOR.fields_by_name
    }


def test_a_protobuf_class_is_asked_for_and_parsed(
    client: eudai.Client, services: ScriptedServices
) -> None:
    part = content_pb2.Part(text=json.dumps({"role": "ROLE_USER", "parts": [{"text": "x"}]}))
    services.on["GenerateOnce"] = lambda _request, _context: pb.GenerateOnceResponse(
        generation=pb.Generation(
            message=content_pb2.Message(parts=[part]),
            finished=pb.Finished(reason=pb.FINISH_REASON_STOP),
        )
    )

    assert client.parse(MODEL, "hi", content_pb2.Message) == eudai.user_message("x")
    shape = services.requests[0].request.format.protobuf
    assert shape.message_type == "eudai.v1.Message"
    assert b"eudai/v1/content.proto" in shape.file_descriptor_set


def test_a_truncated_answer_names_its_finish_reason(
    client: eudai.Client, services: ScriptedServices
) -> None:
    part = content_pb2.Part(text='{"role": "ROLE_')
    services.on["GenerateOnce"] = lambda _request, _context: pb.GenerateOnceResponse(
        generation=pb.Generation(
            message=content_pb2.Message(parts=[part]),
            finished=pb.Finished(reason=pb.FINISH_REASON_LENGTH),
        )
    )

    with pytest.raises(eudai.ParseError, match="ended with LENGTH") as failure:
        client.parse(MODEL, "hi", content_pb2.Message)
    assert failure.value.text == part.text
