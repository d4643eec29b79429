"""Each field of a request changes what Ollama is asked, or what is answered."""

from typing import Any

import pytest
from eudai.v1 import (
    content_pb2,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    generation_service_pb2 as pb,
    model_service_pb2,
    options_pb2,
)
from google.protobuf.duration_pb2 import Duration
from refusal import refusal
from scripted_ollama import ScriptedOllama, done, error, line, reply, stream
from serving import Server, collect

USER = content_pb2.Message(role=content_pb2.ROLE_USER, parts=[content_pb2.Part(text="x")])
DIGEST = "sha256:" + "ab" * 32

# All values differ from each other and from the defaults.
SAMPLING: dict[str, Any] = {
    "temperature": 0.25,
    "top_k": 3,
    "top_p": 0.5,
    "min_p": 0.125,
    "typical_p": 0.75,
    "repeat_penalty": 1.5,
    "repeat_last_n": 7,
    "presence_penalty": -0.5,
    "frequency_penalty": 0.625,
    "seed": 4_294_967_295,
}
# The contract's name, Ollama's name, and a value.
LOAD: dict[str, tuple[str, Any]] = {
    "context_length": ("num_ctx", 2048),
    "batch_size": ("num_batch", 64),
    "gpu_layers": ("num_gpu", -1),
    "threads": ("num_thread", 2),
    "main_gpu": ("main_gpu", 1),
    "use_mmap": ("use_mmap", True),
    "draft_tokens": ("draft_num_predict", 5),
}


async def options_sent(server: Server, ollama: ScriptedOllama, **fields: Any) -> dict[str, Any]:
    """Generate, and return the options that Ollama gets from the request."""
    await collect(server, prompt="x", **fields)
    options: dict[str, Any] = ollama.sent_to("/api/generate")[0].body["options"]
    if not fields.get("sampling", options_pb2.SamplingOptions()).HasField("seed"):
        del options["seed"]  # the server's choice
    return options


@pytest.mark.parametrize("name", SAMPLING)
async def test_a_sampling_option_reaches_ollama(
    server: Server, ollama: ScriptedOllama, name: str
) -> None:
    sampling = options_pb2.SamplingOptions(**{name: SAMPLING[name]})

    assert await options_sent(server, ollama, sampling=sampling) == {name: SAMPLING[name]}


@pytest.mark.parametrize("name", LOAD)
async def test_a_load_option_reaches_ollama(
    server: Server, ollama: ScriptedOllama, name: str
) -> None:
    ollamas_name, value = LOAD[name]
    load = options_pb2.LoadOptions(**{name: value})

    assert await options_sent(server, ollama, load=load) == {ollamas_name: value}


async def test_an_option_that_is_zero_is_sent_as_zero(
    server: Server, ollama: ScriptedOllama
) -> None:
    sampling = options_pb2.SamplingOptions(
        **{name: 0 for name in SAMPLING if name != "repeat_penalty"}  # 0 is refused there
    )
    may_be_zero = ("gpu_layers", "threads", "main_gpu", "use_mmap", "draft_tokens")
    load = options_pb2.LoadOptions(**dict.fromkeys(may_be_zero, 0))  # type: ignore[arg-type]

    assert await options_sent(server, ollama, sampling=sampling, load=load) == dict.fromkeys(
        [*(SAMPLING.keys() - {"repeat_penalty"}), *(LOAD[name][0] for name in may_be_zero)], 0
    )


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("sampling", "repeat_penalty"),
        ("stop", "max_output_tokens"),
        ("load", "context_length"),
        ("load", "batch_size"),
    ],
)
async def test_zero_is_refused_where_it_has_no_meaning(
    server: Server, options: str, name: str
) -> None:
    refused = await refusal(server, prompt="x", **{options: {name: 0}})

    assert refused.fields == [f"{options}.{name}"]


async def test_an_option_that_is_unset_is_not_sent(server: Server, ollama: ScriptedOllama) -> None:
    options = await options_sent(
        server,
        ollama,
        sampling=options_pb2.SamplingOptions(),
        stop=options_pb2.StopOptions(),
        load=options_pb2.LoadOptions(),
    )

    assert options == {}
    assert "keep_alive" not in ollama.sent_to("/api/generate")[0].body


async def test_an_infill_reaches_ollama(server: Server, ollama: ScriptedOllama) -> None:
    await collect(server, infill=pb.Infill(prefix="before", suffix="after"))
    body = ollama.sent_to("/api/generate")[0].body

    assert (body["prompt"], body["suffix"], "raw" in body) == ("before", "after", False)


async def test_a_prompt_and_its_system_reach_ollama(server: Server, ollama: ScriptedOllama) -> None:
    await collect(server, prompt="hi", system="be kind")
    await collect(server, raw_prompt="as it is")
    templated, raw = (exchange.body for exchange in ollama.sent_to("/api/generate"))

    assert (templated["prompt"], templated["system"], "raw" in templated) == (
        "hi",
        "be kind",
        False,
    )
    assert (raw["prompt"], raw["raw"]) == ("as it is", True)


async def test_every_role_reaches_ollama(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/chat"] = stream(done())
    call = content_pb2.ToolCall(id="1", name="f", arguments_json="{}")
    part = content_pb2.Part(text="x")
    turns = [
        content_pb2.Message(role=content_pb2.ROLE_SYSTEM, parts=[part]),
        content_pb2.Message(role=content_pb2.ROLE_USER, parts=[part]),
        content_pb2.Message(role=content_pb2.ROLE_ASSISTANT, tool_calls=[call]),
        content_pb2.Message(role=content_pb2.ROLE_TOOL, tool_call_id="1", tool_name="g"),
    ]
    await collect(server, conversation=pb.Conversation(messages=turns))
    sent = ollama.sent_to("/api/chat")[0].body["messages"]

    assert [turn["role"] for turn in sent] == ["system", "user", "assistant", "tool"]
    assert (sent[3]["tool_call_id"], sent[3]["tool_name"]) == ("1", "g")


async def test_a_tool_reaches_ollama_unchanged(server: Server, ollama: ScriptedOllama) -> None:
    schema = '{"type":"object","properties":{"a":{"type":"integer"}}}'
    ollama.scripts["/api/chat"] = stream(done())
    tool = content_pb2.Tool(name="add", description="adds", parameters_schema=schema)
    await collect(server, conversation=pb.Conversation(messages=[USER]), tools=[tool])

    assert ollama.sent_to("/api/chat")[0].body["tools"][0]["function"] == {
        "name": "add",
        "description": "adds",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    }


@pytest.mark.parametrize(
    ("choice", "count"),
    [
        (pb.TOOL_CHOICE_UNSPECIFIED, 1),
        (pb.TOOL_CHOICE_AUTO, 1),
        (pb.TOOL_CHOICE_NONE, 0),
    ],
)
async def test_a_tool_choice_decides_whether_the_model_gets_the_tools(
    server: Server, ollama: ScriptedOllama, choice: "pb.ToolChoice.ValueType", count: int
) -> None:
    ollama.scripts["/api/chat"] = stream(done())
    await collect(
        server,
        conversation=pb.Conversation(messages=[USER]),
        tools=[content_pb2.Tool(name="add")],
        tool_choice=choice,
    )

    assert len(ollama.sent_to("/api/chat")[0].body.get("tools", ())) == count


@pytest.mark.parametrize(
    ("effort", "think"),
    [
        (pb.REASONING_EFFORT_UNSPECIFIED, True),
        (pb.REASONING_EFFORT_NONE, False),
        (pb.REASONING_EFFORT_LOW, "low"),
        (pb.REASONING_EFFORT_MEDIUM, "medium"),
        (pb.REASONING_EFFORT_HIGH, "high"),
        (pb.REASONING_EFFORT_MAX, "max"),
    ],
)
async def test_a_reasoning_effort_reaches_ollama(
    server: Server,
    ollama: ScriptedOllama,
    effort: "pb.ReasoningEffort.ValueType",
    think: bool | str,
) -> None:
    await collect(
        server, model="deepseek-r1:1.5b", prompt="x", reasoning=pb.ReasoningOptions(effort=effort)
    )

    assert ollama.sent_to("/api/generate")[0].body["think"] == think


async def test_the_default_effort_reasons_under_a_format_too(
    server: Server, ollama: ScriptedOllama
) -> None:
    # If `think` were unset, Ollama would not reason here.
    await collect(
        server,
        model="deepseek-r1:1.5b",
        prompt="x",
        format=pb.OutputFormat(any_json=pb.AnyJsonFormat()),
        reasoning=pb.ReasoningOptions(effort=pb.REASONING_EFFORT_DEFAULT),
    )
    body = ollama.sent_to("/api/generate")[0].body

    assert (body["think"], body["format"]) == (True, "json")


@pytest.mark.parametrize("overflow", [pb.CONTEXT_OVERFLOW_UNSPECIFIED, pb.CONTEXT_OVERFLOW_REJECT])
async def test_a_conversation_that_does_not_fit_is_refused(
    server: Server, ollama: ScriptedOllama, overflow: "pb.ContextOverflow.ValueType"
) -> None:
    too_long = error(400, "the input length exceeds the context length")
    fits = stream(done())
    ollama.scripts["/api/chat"] = lambda exchange: fits if exchange.body["truncate"] else too_long
    conversation = pb.Conversation(messages=[USER])
    refused = await refusal(server, conversation=conversation, context_overflow=overflow)

    assert refused.reason == "CONTEXT_LENGTH_EXCEEDED"


async def test_log_probability_options_reach_ollama(server: Server, ollama: ScriptedOllama) -> None:
    await collect(server, prompt="x", logprobs=pb.LogprobOptions())
    await collect(server, prompt="x", logprobs=pb.LogprobOptions(alternatives=4))
    await collect(server, prompt="x")
    chosen, four, none = (exchange.body for exchange in ollama.sent_to("/api/generate"))

    assert (chosen["logprobs"], chosen["top_logprobs"]) == (True, 0)
    assert (four["logprobs"], four["top_logprobs"]) == (True, 4)
    assert "logprobs" not in none


async def test_labels_are_logged_and_never_sent(
    server: Server, ollama: ScriptedOllama, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await collect(server, prompt="x", labels={"team": "search"})
    logged = [getattr(record, "fields", {}).get("labels") for record in caplog.records]

    assert {"team": "search"} in logged
    assert all("search" not in str(exchange.body) for exchange in ollama.exchanges)


async def test_the_options_of_an_embedding_reach_ollama(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.models["all-minilm:latest"] = {"digest": "3c" * 32}
    ollama.scripts["/api/embed"] = lambda exchange: reply(
        200, {"embeddings": [[1.0] for _ in exchange.body["input"]], "prompt_eval_count": 1}
    )
    stub = embedding_service_pb2_grpc.EmbeddingServiceStub(server.channel)
    load = options_pb2.LoadOptions(keep_alive=Duration(seconds=30))
    request = embedding_service_pb2.EmbedRequest(model="all-minilm", inputs=["x"], load=load)
    _ = [response async for response in stub.Embed(request, timeout=10)]
    body = ollama.sent_to("/api/embed")[-1].body

    assert (body["model"], body["input"]) == ("all-minilm:latest:local", ["x"])
    assert (body["keep_alive"], body["truncate"]) == (30, False)
    assert "dimensions" not in body


CREATED: dict[str, Any] = {
    "files": {"model.gguf": DIGEST},
    "adapters": {"adapter.gguf": DIGEST},
    "template": "{{ .Prompt }}",
    "system": "be kind",
    "licenses": ["MIT"],
    "quantize": "q4_K_M",
    "renderer": "qwen3-coder",
    "parser": "olmo3",
}


@pytest.mark.parametrize("name", CREATED)
async def test_a_field_of_a_creation_reaches_ollama(
    admin: Any, ollama: ScriptedOllama, name: str
) -> None:
    ollama.scripts[f"/api/blobs/{DIGEST}"] = reply(200, "")
    ollama.scripts["/api/create"] = stream(line(status="success"))
    ollama.models["mine:latest"] = {"digest": "1" * 64}
    fields = {"base_model": "gemma3:270m"} if name != "files" else {}
    request = model_service_pb2.CreateModelRequest(model="mine", **{**fields, name: CREATED[name]})
    _ = [event async for event in admin.CreateModel(request)]
    body = ollama.sent_to("/api/create")[0].body

    assert body["license" if name == "licenses" else name] == CREATED[name]
    assert body["model"] == "mine:latest"


async def test_a_seed_is_chosen_sent_and_returned(server: Server, ollama: ScriptedOllama) -> None:
    starts = [(await collect(server, prompt="hi"))[0].started for _ in range(2)]
    sent = [exchange.body["options"]["seed"] for exchange in ollama.sent_to("/api/generate")[-2:]]

    assert [started.seed for started in starts] == sent
    assert sent[0] != sent[1]


@pytest.mark.parametrize("seed", [0, 7])
async def test_the_seed_of_the_request_is_returned(server: Server, seed: int) -> None:
    events = await collect(server, prompt="hi", sampling=options_pb2.SamplingOptions(seed=seed))

    assert events[0].started.HasField("seed")
    assert events[0].started.seed == seed


async def test_the_seed_of_a_model_is_left_to_the_model(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.models["gemma3:270m"]["parameters"] = "seed                           42"
    events = await collect(server, prompt="hi")

    assert "seed" not in ollama.sent_to("/api/generate")[-1].body["options"]
    assert not events[0].started.HasField("seed")


@pytest.mark.usefixtures("quick_probe")
async def test_started_has_the_version_of_ollama(server: Server, ollama: ScriptedOllama) -> None:
    await ollama.until_probed()
    events = await collect(server, prompt="hi")

    assert events[0].started.ollama_version == "0.32.15"
