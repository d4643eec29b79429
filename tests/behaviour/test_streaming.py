"""The events of a generation: their order, their content, and when they are sent."""

import asyncio

from eudai.v1 import content_pb2, generation_service_pb2 as pb, options_pb2
from google.protobuf.duration_pb2 import Duration
from scripted_ollama import (
    END,
    HEADERS_STREAM,
    ScriptedOllama,
    chunk,
    done,
    error,
    line,
    stream,
    words,
)
from serving import Server, collect, kinds, text_of

THINKER = "deepseek-r1:1.5b"


async def test_the_order_is_started_deltas_finished(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = words("Hello", " world")
    events = await collect(server, prompt="hi")

    assert text_of(events) == "Hello world"
    assert kinds(events)[0] == "started"
    assert kinds(events)[-1] == "finished"
    assert set(kinds(events)[1:-1]) == {"delta"}


async def test_started_names_the_model(server: Server) -> None:
    started = (await collect(server, prompt="hi"))[0].started

    assert started.model == "gemma3:270m"
    assert started.digest == "sha256:" + "14" * 32
    assert started.context_length == 4096
    assert started.generation_id
    assert started.start_time.seconds > 0


async def test_finished_reports_usage_and_timings_once(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = words("a", "b")
    finished = (await collect(server, prompt="hi"))[-1].finished

    assert (finished.usage.input_tokens, finished.usage.output_tokens) == (3, 2)
    assert finished.reason == pb.FINISH_REASON_STOP
    assert finished.backend_reason == "stop"
    assert finished.timings.generate.ToMilliseconds() == 6
    assert (
        0
        < finished.timings.first_output.ToMicroseconds()
        <= finished.timings.total.ToMicroseconds()
    )


async def test_the_first_output_is_not_delayed(server: Server, ollama: ScriptedOllama) -> None:
    more = asyncio.Event()
    ollama.scripts["/api/generate"] = [
        HEADERS_STREAM,
        chunk(line(response="first", done=False)),
        more,
        chunk(done()),
        END,
    ]
    call = server.generation.Generate(
        pb.GenerateRequest(model="gemma3:270m", prompt="hi"), timeout=10
    )
    await call.read()
    first = await call.read()
    more.set()
    last = await call.read()

    assert first.delta.text == "first"
    assert last.HasField("finished")


async def test_output_that_arrived_together_is_sent_together(
    server: Server, ollama: ScriptedOllama
) -> None:
    together = b"".join(line(response=f"{index} ", done=False) for index in range(500))
    ollama.scripts["/api/generate"] = stream(together, done())
    events = await collect(server, prompt="hi")

    assert text_of(events) == "".join(f"{index} " for index in range(500))
    assert len(events) < 20


async def test_a_flush_interval_gathers_all_deltas_but_the_first(
    server: Server, ollama: ScriptedOllama
) -> None:
    pieces = [chunk(line(response="x", done=False)) for _ in range(20)]
    script = [step for piece in pieces for step in (piece, 0.005)]
    ollama.scripts["/api/generate"] = [HEADERS_STREAM, *script, chunk(done()), END]
    events = await collect(
        server, prompt="hi", events=pb.EventOptions(flush_interval=Duration(seconds=1))
    )

    assert text_of(events) == "x" * 20
    assert events[1].delta.text == "x"
    assert kinds(events).count("delta") <= 3


async def test_reasoning_is_separate_from_the_answer(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = stream(
        line(response="", thinking="hm", done=False),
        line(response="yes", thinking=" so", done=False),
        done(),
    )
    events = await collect(server, model=THINKER, prompt="hi")

    assert "".join(event.delta.reasoning for event in events) == "hm so"
    assert text_of(events) == "yes"


async def test_hidden_reasoning_is_not_sent(server: Server, ollama: ScriptedOllama) -> None:
    secret = line(
        response="", thinking="secret", done=False, logprobs=[{"token": "secret", "logprob": -1.0}]
    )
    ollama.scripts["/api/generate"] = stream(secret, line(response="yes", done=False), done())
    events = await collect(
        server,
        model=THINKER,
        prompt="hi",
        reasoning=pb.ReasoningOptions(hide=True),
        logprobs=pb.LogprobOptions(),
    )

    assert text_of(events) == "yes"
    assert b"secret" not in b"".join(event.SerializeToString() for event in events)


async def test_log_probabilities_of_an_empty_piece_wait_for_the_next(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = stream(
        line(
            response="", done=False, logprobs=[{"token": "\ufffd", "bytes": [195], "logprob": -1.5}]
        ),
        line(
            response="ü",
            done=False,
            logprobs=[
                {
                    "token": "\ufffd",
                    "bytes": [188],
                    "logprob": -0.5,
                    "top_logprobs": [{"token": "x"}],
                }
            ],
        ),
        line(response="", done=False, logprobs=[{"token": "", "logprob": 0.0}]),
        done(),
    )
    events = await collect(server, prompt="hi", logprobs=pb.LogprobOptions(alternatives=1))
    deltas = [event.delta for event in events if event.HasField("delta")]

    assert all(delta.text for delta in deltas)
    assert (
        b"".join(token.chosen.token_bytes for delta in deltas for token in delta.logprobs)
        == "ü".encode()
    )
    assert len(events[-1].finished.logprobs) == 1
    assert ollama.sent_to("/api/generate")[0].body["top_logprobs"] == 1


async def test_progress_is_sent_only_on_request(server: Server) -> None:
    events = await collect(server, prompt="hi", events=pb.EventOptions(progress=True))
    phases = [event.progress.phase for event in events if event.HasField("progress")]

    assert phases == [pb.GENERATION_PHASE_LOADING_MODEL, pb.GENERATION_PHASE_EVALUATING_PROMPT]
    assert "progress" not in kinds(await collect(server, prompt="hi"))


async def test_the_unary_call_returns_the_same_answer(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = stream(
        line(response="", thinking="hm", done=False),
        line(response="a", done=False),
        line(response="b", done=False),
        done(),
    )
    request = pb.GenerateOnceRequest(request=pb.GenerateRequest(model=THINKER, prompt="hi"))
    whole = (await server.generation.GenerateOnce(request, timeout=10)).generation

    assert [part.WhichOneof("kind") for part in whole.message.parts] == ["reasoning", "text"]
    assert whole.message.parts[1].text == "ab"
    assert whole.message.role == content_pb2.ROLE_ASSISTANT
    assert whole.finished.usage.output_tokens == 2
    assert whole.started.model == THINKER


async def test_metadata_has_the_id_and_the_tokens(server: Server) -> None:
    call = server.generation.Generate(
        pb.GenerateRequest(model="gemma3:270m", prompt="hi"), timeout=10
    )
    events = [event async for event in call]
    initial = dict(await call.initial_metadata())
    trailing = dict(await call.trailing_metadata())

    assert initial["eudai-generation-id"] == events[0].started.generation_id
    assert trailing["eudai-finish-reason"] == "STOP"
    assert (trailing["eudai-input-tokens"], trailing["eudai-output-tokens"]) == ("3", "2")


async def test_a_conversation_is_sent_with_its_system_prompt(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/chat"] = stream(
        line(message={"role": "assistant", "content": "fine"}, done=False), done()
    )
    turns = [
        content_pb2.Message(
            role=content_pb2.ROLE_USER,
            parts=[content_pb2.Part(text="how "), content_pb2.Part(text="are you")],
        ),
        content_pb2.Message(
            role=content_pb2.ROLE_ASSISTANT,
            parts=[content_pb2.Part(reasoning="polite"), content_pb2.Part(text="well, and you?")],
        ),
        content_pb2.Message(role=content_pb2.ROLE_USER, parts=[content_pb2.Part(text="well")]),
    ]
    events = await collect(server, conversation=pb.Conversation(messages=turns), system="be kind")

    assert text_of(events) == "fine"
    assert ollama.sent_to("/api/chat")[0].body["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "how are you"},
        {"role": "assistant", "content": "well, and you?", "thinking": "polite"},
        {"role": "user", "content": "well"},
    ]


async def test_every_option_reaches_ollama_under_its_own_name(
    server: Server, ollama: ScriptedOllama
) -> None:
    await collect(
        server,
        raw_prompt="once",
        sampling=options_pb2.SamplingOptions(
            temperature=0, top_k=1, seed=4_294_967_295, repeat_penalty=1.5
        ),
        stop=options_pb2.StopOptions(max_output_tokens=7, sequences=["\n", "END"]),
        format=pb.OutputFormat(json_schema='{"z":1,"a":2}'),
        load=options_pb2.LoadOptions(
            context_length=2048, use_mmap=False, keep_alive=Duration(seconds=-1)
        ),
    )
    body = ollama.sent_to("/api/generate")[0].body

    assert body["options"] == {
        "temperature": 0,
        "top_k": 1,
        "seed": 4_294_967_295,
        "repeat_penalty": 1.5,
        "num_predict": 7,
        "stop": ["\n", "END"],
        "num_ctx": 2048,
        "use_mmap": False,
    }
    assert list(body["format"]) == ["z", "a"]
    assert (body["raw"], body["shift"], body["truncate"], body["stream"], body["think"]) == (
        True,
        False,
        False,
        True,
        False,
    )
    assert body["keep_alive"] == -1


async def test_every_request_says_whether_to_reason(server: Server, ollama: ScriptedOllama) -> None:
    await collect(server, prompt="hi")
    await collect(server, model=THINKER, prompt="hi")
    await collect(
        server, model=THINKER, prompt="hi", format=pb.OutputFormat(any_json=pb.AnyJsonFormat())
    )
    await collect(
        server,
        model=THINKER,
        prompt="hi",
        reasoning=pb.ReasoningOptions(effort=pb.REASONING_EFFORT_HIGH),
    )

    assert [exchange.body["think"] for exchange in ollama.sent_to("/api/generate")] == [
        False,
        True,
        False,
        "high",
    ]


async def test_a_long_conversation_is_cut_only_on_request(
    server: Server, ollama: ScriptedOllama
) -> None:
    refusal = error(
        400,
        '{"error":{"message":"request (9 tokens) exceeds the available context size (8 tokens)"}}',
    )
    fits = stream(line(message={"content": "short"}, done=False), done())
    ollama.scripts["/api/chat"] = lambda exchange: fits if exchange.body["truncate"] else refusal
    turn = content_pb2.Message(role=content_pb2.ROLE_USER, parts=[content_pb2.Part(text="long")])
    events = await collect(
        server,
        conversation=pb.Conversation(messages=[turn]),
        context_overflow=pb.CONTEXT_OVERFLOW_DROP_OLDEST,
    )

    assert kinds(events)[:2] == ["warning", "started"]
    assert events[0].warning.code == pb.GENERATION_WARNING_CODE_INPUT_TRUNCATED
    assert [exchange.body["truncate"] for exchange in ollama.sent_to("/api/chat")] == [False, True]
