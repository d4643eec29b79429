"""Each field of a response holds what Ollama reported or what the server measured."""

import asyncio
from typing import Any

import pytest
from eudai.v1 import (
    content_pb2,
    generation_service_pb2 as pb,
    model_service_pb2,
    server_service_pb2,
    server_service_pb2_grpc,
)
from eudai_server.core.events import Phase, Progress
from eudai_server.rpc.wire.generation_response import response_from
from google.protobuf.duration_pb2 import Duration
from refusal import refusal
from scripted_ollama import (
    END,
    HEADERS_STREAM,
    Exchange,
    Script,
    ScriptedOllama,
    chunk,
    done,
    line,
    reply,
    stream,
)
from serving import Server, collect, config_for, serving

THINKER = "deepseek-r1:1.5b"
USER = content_pb2.Message(role=content_pb2.ROLE_USER, parts=[content_pb2.Part(text="x")])


def token(text: str, *, probability: float = -0.5, **fields: str) -> bytes:
    """A line with one token, and one alternative to it."""
    other = {"token": "or", "bytes": [111, 114], "logprob": -2.5}
    chosen = {"token": text, "bytes": list(text.encode()), "logprob": probability}
    return line(done=False, logprobs=[{**chosen, "top_logprobs": [other]}], **fields)


async def test_a_token_has_log_probabilities(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = stream(token("a", response="a"), done())
    events = await collect(server, prompt="x", logprobs=pb.LogprobOptions(alternatives=1))
    [found] = [one for event in events for one in event.delta.logprobs]

    assert found.chosen == pb.Logprob(token="a", token_bytes=b"a", logprob=-0.5)
    assert list(found.top) == [pb.Logprob(token="or", token_bytes=b"or", logprob=-2.5)]


async def test_the_unary_call_has_warnings_and_log_probabilities(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = stream(
        token("hm", response="", thinking="hm"), token("no JSON", response="no JSON"), done()
    )
    request = pb.GenerateRequest(
        model=THINKER,
        prompt="x",
        logprobs=pb.LogprobOptions(),
        format=pb.OutputFormat(any_json=pb.AnyJsonFormat()),
        reasoning=pb.ReasoningOptions(effort=pb.REASONING_EFFORT_DEFAULT),
    )
    once = pb.GenerateOnceRequest(request=request)
    whole = (await server.generation.GenerateOnce(once, timeout=10)).generation

    assert [one.chosen.token for one in whole.reasoning_logprobs] == ["hm"]
    assert [one.chosen.token for one in whole.logprobs] == ["no JSON"]
    assert [warning.code for warning in whole.warnings] == [
        pb.GENERATION_WARNING_CODE_FORMAT_NOT_SATISFIED
    ]


async def test_timings_come_from_ollama_and_the_server(server: Server) -> None:
    timings = (await collect(server, prompt="x"))[-1].finished.timings

    assert timings.prompt.ToMilliseconds() == 2
    assert timings.generate.ToMilliseconds() == 6
    assert timings.total.ToMicroseconds() > 0


async def test_progress_reports_the_elapsed_time(server: Server, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/generate"] = [0.3, HEADERS_STREAM, chunk(done()), END]
    interval = Duration(nanos=100_000_000)
    events = await collect(server, prompt="x", events=pb.EventOptions(heartbeat_interval=interval))
    elapsed = [
        event.progress.elapsed.ToMicroseconds() for event in events if event.HasField("progress")
    ]

    assert elapsed == sorted(elapsed)
    assert elapsed[0] > 0
    assert elapsed[-1] >= 100_000


async def test_progress_after_the_queue_has_no_place(server: Server) -> None:
    events = await collect(server, prompt="x", events=pb.EventOptions(progress=True))
    progress = [event.progress for event in events if event.HasField("progress")]

    assert progress
    assert not any(one.HasField("requests_ahead") for one in progress)


async def test_an_empty_answer_has_zero_tokens_and_a_cut_one_no_count(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = stream(done(prompt=0, output=0))
    zero = (await collect(server, prompt="x"))[-1].finished.usage
    ollama.scripts["/api/generate"] = [60.0]
    budget = Duration(nanos=100_000_000)
    unset = (await collect(server, prompt="x", time_budget=budget))[-1].finished.usage

    assert (zero.HasField("input_tokens"), zero.HasField("output_tokens")) == (True, True)
    assert (unset.HasField("input_tokens"), unset.HasField("output_tokens")) == (False, False)


@pytest.mark.parametrize(
    ("word", "tokens", "reason"),
    [
        ("stop", 2, pb.FINISH_REASON_STOP),
        ("length", 5, pb.FINISH_REASON_LENGTH),
        ("length", 4093, pb.FINISH_REASON_CONTEXT_LENGTH),
        ("something new", 2, pb.FINISH_REASON_UNSPECIFIED),
    ],
)
async def test_the_finish_reason_is_reported(
    server: Server,
    ollama: ScriptedOllama,
    word: str,
    tokens: int,
    reason: "pb.FinishReason.ValueType",
) -> None:
    ollama.scripts["/api/generate"] = stream(done(word, output=tokens))
    finished = (await collect(server, prompt="x"))[-1].finished

    assert (finished.reason, finished.backend_reason) == (reason, word)


async def test_a_lost_or_altered_tool_call_brings_a_warning(
    server: Server, ollama: ScriptedOllama
) -> None:
    conversation = pb.Conversation(messages=[USER])
    tools = [content_pb2.Tool(name="f", parameters_schema='{"type":"object"}')]
    ollama.scripts["/api/chat"] = stream(done(output=60))
    lost = await collect(server, conversation=conversation, tools=tools)
    call = {"function": {"name": "f", "arguments": {"a": 9007199254740992}}}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    ollama.scripts["/api/chat"] = stream(line(message=message, done=False), done())
    altered = await collect(server, conversation=conversation, tools=tools)

    assert [event.warning.code for event in lost if event.HasField("warning")] == [
        pb.GENERATION_WARNING_CODE_TOOL_CALL_LOST
    ]
    assert [event.warning.code for event in altered if event.HasField("warning")] == [
        pb.GENERATION_WARNING_CODE_TOOL_CALL_ALTERED
    ]


async def test_a_failure_after_output_names_its_generation(
    server: Server, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/generate"] = stream(line(response="x", done=False))
    refused = await refusal(server, prompt="x")
    failure = refused.details["GenerationFailure"]

    assert (failure.phase, failure.output_sent) == (pb.GENERATION_PHASE_GENERATING, True)
    assert len(failure.generation_id) == 32


CAPABILITIES = {
    "completion": model_service_pb2.CAPABILITY_COMPLETION,
    "tools": model_service_pb2.CAPABILITY_TOOLS,
    "insert": model_service_pb2.CAPABILITY_INSERT,
    "vision": model_service_pb2.CAPABILITY_VISION,
    "embedding": model_service_pb2.CAPABILITY_EMBEDDING,
    "thinking": model_service_pb2.CAPABILITY_THINKING,
    "audio": model_service_pb2.CAPABILITY_AUDIO,
    "image": model_service_pb2.CAPABILITY_IMAGE,
}


@pytest.mark.parametrize("word", CAPABILITIES)
async def test_a_capability_is_listed_and_can_be_filtered_by(
    admin: Any, ollama: ScriptedOllama, word: str
) -> None:
    def shown(exchange: Exchange) -> Script:
        has_it = exchange.body["model"] == "gemma3:270m"
        return reply(200, {"capabilities": [word] if has_it else []})

    ollama.scripts["/api/show"] = shown
    capability = CAPABILITIES[word]
    request = model_service_pb2.ListModelsRequest(capabilities=[capability])
    models = (await admin.ListModels(request)).models

    assert [model.name for model in models] == ["gemma3:270m"]
    assert list(models[0].capabilities) == [capability]


async def test_a_description_is_that_of_ollama(admin: Any, ollama: ScriptedOllama) -> None:
    ollama.models["gemma3:270m"] |= {
        "size": 1000,
        "modified_at": "2026-01-02T03:04:05Z",
        "details": {"family": "gemma3", "parameter_size": "270M", "quantization_level": "Q8_0"},
        "size_vram": 600,
        "expires_at": "2026-01-02T04:00:00Z",
    }
    ollama.load("gemma3:270m")
    info = {
        "general.architecture": "gemma3",
        "gemma3.context_length": 32768,
        "gemma3.embedding_length": 640,
    }
    ollama.scripts["/api/show"] = reply(
        200,
        {
            "template": "T",
            "system": "S",
            "license": "L",
            "modelfile": "M",
            "parameters": "P",
            "renderer": "R",
            "parser": "A",
            "messages": [{"role": "user", "content": "hi"}],
            "model_info": info,
            "capabilities": ["completion"],
        },
    )
    request = model_service_pb2.GetModelRequest(model="gemma3:270m", verbose=True)
    answer = await admin.GetModel(request)
    brief = await admin.GetModel(model_service_pb2.GetModelRequest(model="gemma3:270m"))
    model, loaded = answer.model, answer.model.loaded

    assert (model.name, model.digest) == ("gemma3:270m", "sha256:" + "14" * 32)
    assert (model.size_bytes, model.family, model.parameter_size, model.quantization) == (
        1000,
        "gemma3",
        "270M",
        "Q8_0",
    )
    assert model.update_time.ToJsonString() == "2026-01-02T03:04:05Z"
    assert (model.max_context_length, answer.embedding_length) == (32768, 640)
    assert (loaded.context_length, loaded.size_bytes, loaded.gpu_bytes) == (4096, 1000, 600)
    assert loaded.expire_time.ToJsonString() == "2026-01-02T04:00:00Z"
    assert (answer.template, answer.system, list(answer.licenses)) == ("T", "S", ["L"])
    assert (answer.modelfile, answer.parameters) == ("M", "P")
    assert (answer.renderer, answer.parser) == ("R", "A")
    hello = content_pb2.Part(text="hi")
    assert list(answer.messages) == [content_pb2.Message(role=content_pb2.ROLE_USER, parts=[hello])]
    assert '"gemma3.context_length": 32768' in answer.metadata_json
    assert brief.metadata_json == ""


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("pulling manifest", model_service_pb2.TRANSFER_PHASE_RESOLVING),
        ("pulling abc", model_service_pb2.TRANSFER_PHASE_TRANSFERRING),
        ("verifying sha256 digest", model_service_pb2.TRANSFER_PHASE_VERIFYING),
        ("writing manifest", model_service_pb2.TRANSFER_PHASE_WRITING),
        ("something new", model_service_pb2.TRANSFER_PHASE_UNSPECIFIED),
    ],
)
@pytest.mark.parametrize("method", ["PullModel", "PushModel"])
async def test_a_transfer_reports_its_phase_and_status(
    admin: Any,
    ollama: ScriptedOllama,
    method: str,
    status: str,
    phase: "model_service_pb2.TransferPhase.ValueType",
) -> None:
    release = asyncio.Event()
    lines = line(status=status, digest="sha256:a", total=100, completed=40), line(status="success")
    script = [HEADERS_STREAM, chunk(lines[0]), release, chunk(lines[1]), END]
    ollama.scripts[f"/api/{method[:4].lower()}"] = script
    request = getattr(model_service_pb2, f"{method}Request")(model="gemma3:270m")
    events = []
    async for event in getattr(admin, method)(request, timeout=20):
        events.append(event)
        release.set()

    assert events[0].progress == model_service_pb2.TransferProgress(
        phase=phase, completed_bytes=40, total_bytes=100, status=status
    )
    assert events[-1].completed.name == "gemma3:270m"


async def test_a_load_reports_its_time_and_its_model(admin: Any, ollama: ScriptedOllama) -> None:
    ollama.load_script = [0.2, *reply(200, {"done": True, "done_reason": "load"})]
    request = model_service_pb2.LoadModelRequest(model="gemma3:270m")
    request.load.context_length = 2048
    loaded = await admin.LoadModel(request)

    assert loaded.model.name == "gemma3:270m"
    assert loaded.duration.ToMilliseconds() >= 200
    assert ollama.loads()[0].model == "gemma3:270m"
    assert ollama.loads()[0].body["options"] == {"num_ctx": 2048}


async def test_waiting_requests_are_counted(ollama: ScriptedOllama) -> None:
    release = ollama.hold()
    async with serving(config_for(ollama.url, max_running=1, max_queued=5)) as server:
        await server.until("", "SERVING")
        calls = [asyncio.create_task(collect(server, prompt="x")) for _ in range(3)]
        stub = server_service_pb2_grpc.ServerServiceStub(server.channel)
        request = server_service_pb2.GetServerInfoRequest()
        async with asyncio.timeout(20):
            while (info := await stub.GetServerInfo(request)).queued < 2:
                await asyncio.sleep(0.01)
        release.set()
        await asyncio.gather(*calls)

    assert (info.running, info.queued) == (1, 2)
    assert (info.max_running, info.max_queued) == (1, 5)


async def test_a_model_is_copied_deleted_and_unloaded(admin: Any, ollama: ScriptedOllama) -> None:
    ollama.models["mine:latest"] = {"digest": "1" * 64}
    ollama.load("gemma3:270m")
    ollama.scripts["/api/copy"] = ollama.scripts["/api/delete"] = reply(200, "")
    copy = model_service_pb2.CopyModelRequest(source="gemma3:270m", destination="mine")
    copied = (await admin.CopyModel(copy)).model
    await admin.DeleteModel(model_service_pb2.DeleteModelRequest(model="mine"))
    await admin.UnloadModel(model_service_pb2.UnloadModelRequest(model="gemma3:270m"))

    assert copied.name == "mine:latest"
    assert ollama.sent_to("/api/copy")[0].body == {
        "source": "gemma3:270m",
        "destination": "mine:latest",
    }
    assert ollama.sent_to("/api/delete")[0].body == {"model": "mine:latest"}
    assert ollama.unloads() == ["gemma3:270m"]


def test_the_first_place_in_the_queue_is_reported() -> None:
    event = Progress(Phase.QUEUED, requests_ahead=0)
    response = response_from(event)

    assert response.progress.HasField("requests_ahead")


async def test_server_info_reports_what_the_operator_allows(
    ollama: ScriptedOllama,
) -> None:
    async with serving(config_for(ollama.url, admin=True, load_options=False)) as server:
        stub = server_service_pb2_grpc.ServerServiceStub(server.channel)
        info = await stub.GetServerInfo(server_service_pb2.GetServerInfoRequest())

    assert (info.admin_enabled, info.load_options_enabled) == (True, False)
