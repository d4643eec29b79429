"""Pulls, pushes and creations of models: progress, silence, failures and registries."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from eudai.v1 import (
    content_pb2,
    model_service_pb2 as pb,
    model_service_pb2_grpc as rpc,
    options_pb2,
)
from eudai_server.ollama import store
from refusal import Refusal, refused
from scripted_ollama import (
    END,
    HEADERS_STREAM,
    ScriptedOllama,
    chunk,
    line,
    reply,
    stream,
)
from serving import config_for, serving

DIGEST = "sha256:" + "ab" * 32


PULL = pb.PullModelRequest(model="gemma3:270m")
LAYERS = [
    line(status="pulling manifest"),
    line(status="pulling aaaa", digest="sha256:a", total=100, completed=40),
    line(status="pulling bbbb", digest="sha256:b", total=50),
    line(status="pulling aaaa", digest="sha256:a", total=100, completed=100),
    line(status="verifying sha256 digest"),
    line(status="writing manifest"),
    line(status="success"),
]


async def test_a_pull_streams_its_progress_over_all_layers(
    admin: Any, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/pull"] = [
        HEADERS_STREAM,
        *[step for layer in LAYERS for step in (chunk(layer), 0.05)],
        END,
    ]
    events = [event async for event in admin.PullModel(pb.PullModelRequest(model="gemma3:270m"))]
    progress = [event.progress for event in events if event.HasField("progress")]

    assert [step.phase for step in progress][:2] == [
        pb.TRANSFER_PHASE_RESOLVING,
        pb.TRANSFER_PHASE_TRANSFERRING,
    ]
    assert [(step.completed_bytes, step.total_bytes) for step in progress][1:4] == [
        (40, 100),
        (40, 150),
        (100, 150),
    ]
    assert events[-1].completed.name == "gemma3:270m"
    assert ollama.sent_to("/api/pull")[0].body["insecure"] is False


async def test_calls_for_one_model_share_one_download(admin: Any, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/pull"] = [
        HEADERS_STREAM,
        *[step for layer in LAYERS for step in (chunk(layer), 0.05)],
        END,
    ]

    async def pull(model: str) -> str:
        events = [event async for event in admin.PullModel(pb.PullModelRequest(model=model))]
        return str(events[-1].completed.name)

    assert set(
        await asyncio.gather(
            *(pull(model) for model in ("gemma3:270m", "library/gemma3:270m", "GEMMA3:270m"))
        )
    ) == {"gemma3:270m"}
    assert len(ollama.sent_to("/api/pull")) == 1


@pytest.mark.parametrize("detach", [False, True])
async def test_a_download_ends_with_its_last_caller_unless_detached(
    admin: Any,
    ollama: ScriptedOllama,
    detach: bool,
) -> None:
    rest = asyncio.Event()
    ollama.scripts["/api/pull"] = [
        HEADERS_STREAM,
        chunk(LAYERS[0]),
        rest,
        *map(chunk, LAYERS[1:]),
        END,
    ]
    first, second = (
        admin.PullModel(pb.PullModelRequest(model="gemma3:270m", detach=detach)) for _ in range(2)
    )
    await first.read()
    await second.read()
    first.cancel()
    await asyncio.sleep(0.1)  # meanwhile the download is not closed
    exchange = ollama.sent_to("/api/pull")[0]
    after_one = exchange.closed.is_set()
    second.cancel()
    if detach:
        await asyncio.sleep(0.1)  # it is still not closed
        assert not exchange.closed.is_set()
        rest.set()
    await asyncio.wait_for(exchange.closed.wait(), 5)

    assert not after_one


async def test_a_detached_pull_is_listed_and_can_be_cancelled(
    admin: Any, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/pull"] = [HEADERS_STREAM, chunk(LAYERS[1]), 60.0]
    call = admin.PullModel(pb.PullModelRequest(model="gemma3:270m", detach=True))
    await call.read()
    followed = await admin.ListPulls(pb.ListPullsRequest())
    call.cancel()
    async with asyncio.timeout(5):
        while (listed := await admin.ListPulls(pb.ListPullsRequest())).pulls[0].callers:
            await asyncio.sleep(0.01)
    await admin.CancelPull(pb.CancelPullRequest(model="gemma3:270m"))
    afterwards = await admin.ListPulls(pb.ListPullsRequest())

    progress = pb.TransferProgress(
        phase=pb.TRANSFER_PHASE_TRANSFERRING,
        completed_bytes=40,
        total_bytes=100,
        status="pulling aaaa",
    )
    pull = pb.Pull(model="gemma3:270m", progress=progress, detached=True)
    assert list(followed.pulls) == [pb.Pull(**fields_of(pull), callers=1)]
    assert list(listed.pulls) == [pull]
    assert list(afterwards.pulls) == []
    assert ollama.sent_to("/api/pull")[0].closed.is_set()


def fields_of(message: pb.Pull) -> dict[str, Any]:
    """The fields that are set."""
    return {field.name: value for field, value in message.ListFields()}


async def test_a_cancelled_pull_fails_for_every_caller_with_a_reason(
    admin: Any, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/pull"] = [HEADERS_STREAM, chunk(LAYERS[1]), 60.0]
    calls = [admin.PullModel(PULL) for _ in range(2)]
    for call in calls:
        await call.read()
    await admin.CancelPull(pb.CancelPullRequest(model="gemma3:270m"))
    failures = []
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call.read()
        failures.append(Refusal(failure.value).reason)

    assert failures == ["PULL_CANCELLED"] * 2
    assert len(ollama.sent_to("/api/pull")) == 1


async def test_a_pull_that_does_not_run_cannot_be_cancelled(admin: Any) -> None:
    failure = await refused(admin.CancelPull(pb.CancelPullRequest(model="gemma3:270m")))

    assert failure.reason == "PULL_NOT_FOUND"


PULL_ERRORS = [
    ("pull model manifest: file does not exist", "MODEL_NOT_FOUND"),
    (
        'pull model manifest: Get "https://x/v2/": dial tcp: lookup x: no such host',
        "REGISTRY_FAILURE",
    ),
    ("max retries exceeded: EOF", "REGISTRY_FAILURE"),
    ("unauthorized: access denied", "REGISTRY_DENIED"),
    ("something new SECRET", "BACKEND_FAILURE"),
]


@pytest.mark.parametrize(("message", "reason"), PULL_ERRORS)
async def test_an_error_line_after_http_200_fails_the_pull(
    admin: Any, ollama: ScriptedOllama, message: str, reason: str
) -> None:
    ollama.scripts["/api/pull"] = stream(LAYERS[0], line(error=message))
    failure = await refused(admin.PullModel(pb.PullModelRequest(model="gemma3:270m")))

    assert failure.reason == reason
    assert "SECRET" not in failure.message


@pytest.mark.parametrize(
    "status",
    ["verifying sha256 digest", pytest.param("writing manifest", marks=pytest.mark.slow)],
)
async def test_a_pull_that_verifies_in_silence_is_not_stalled(
    ollama: ScriptedOllama, status: str
) -> None:
    ollama.scripts["/api/show"] = reply(200, {})
    ollama.scripts["/api/pull"] = [
        HEADERS_STREAM,
        chunk(line(status=status)),
        1.0,
        chunk(LAYERS[-1]),
        END,
    ]
    async with impatient(ollama) as stub:
        events = [event async for event in stub.PullModel(PULL)]

    assert events[-1].HasField("completed")


@pytest.mark.slow
async def test_a_creation_that_converts_in_silence_is_not_stalled(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/show"] = reply(200, {})
    ollama.scripts["/api/create"] = [
        HEADERS_STREAM,
        chunk(line(status="converting model")),
        1.0,
        chunk(LAYERS[-1]),
        END,
    ]
    request = pb.CreateModelRequest(model="gemma3:270m", base_model="gemma3:270m")
    async with impatient(ollama) as stub:
        events = [event async for event in stub.CreateModel(request)]

    assert events[-1].HasField("completed")


async def test_a_pull_that_verifies_in_silence_has_a_limit(
    ollama: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "WORK_TIMEOUT_S", 0.6)
    ollama.scripts["/api/pull"] = [HEADERS_STREAM, chunk(line(status="writing manifest")), 60.0]
    async with impatient(ollama) as stub:
        failure = await refused(stub.PullModel(PULL))

    assert failure.reason == "BACKEND_STALLED"


async def test_a_pull_whose_registry_is_silent_is_stalled(ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/pull"] = [HEADERS_STREAM, chunk(LAYERS[1]), 60.0]
    async with impatient(ollama) as stub:
        failure = await refused(stub.PullModel(PULL))

    assert failure.reason == "BACKEND_STALLED"


@asynccontextmanager
async def impatient(ollama: ScriptedOllama) -> AsyncIterator[Any]:
    """A stub of a server with a short limit for silence."""
    async with serving(config_for(ollama.url, admin=True, first_event_timeout_s=0.5)) as server:
        await server.until("", "SERVING")
        yield rpc.ModelServiceStub(server.channel)


async def test_an_interrupted_pull_fails(admin: Any, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/pull"] = stream(*LAYERS[:3])

    assert (
        await refused(admin.PullModel(pb.PullModelRequest(model="gemma3:270m")))
    ).reason == "BACKEND_STREAM_INTERRUPTED"


async def test_only_registries_that_the_operator_allows_are_used(
    admin: Any, ollama: ScriptedOllama
) -> None:
    ollama.scripts["/api/pull"] = stream(*LAYERS)
    ollama.models["localhost:5005/a/b:latest"] = {"digest": "0" * 64}
    [_ async for _ in admin.PullModel(pb.PullModelRequest(model="localhost:5005/a/b"))]

    assert (
        await refused(admin.PullModel(pb.PullModelRequest(model="evil.example/a/b")))
    ).reason == "MODEL_FORBIDDEN"
    assert (
        await refused(admin.PushModel(pb.PushModelRequest(model="evil.example/a/b")))
    ).reason == "MODEL_FORBIDDEN"
    assert [exchange.body["insecure"] for exchange in ollama.sent_to("/api/pull")] == [True]


async def test_a_push_streams_its_progress(admin: Any, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/push"] = stream(
        line(status="retrieving manifest"), line(status="pushing manifest"), line(status="success")
    )
    events = [event async for event in admin.PushModel(pb.PushModelRequest(model="gemma3:270m"))]

    assert events[-1].completed.digest == "sha256:" + "14" * 32
    assert (
        await refused(admin.PushModel(pb.PushModelRequest(model="nope")))
    ).reason == "MODEL_NOT_FOUND"


async def test_a_creation_sends_every_field(admin: Any, ollama: ScriptedOllama) -> None:
    ollama.scripts["/api/create"] = stream(line(status="writing manifest"), line(status="success"))
    ollama.models["mine:latest"] = {"digest": "1" * 64}
    request = pb.CreateModelRequest(
        model="mine",
        base_model="gemma3:270m",
        system="be kind",
        licenses=["MIT"],
        sampling=options_pb2.SamplingOptions(temperature=0.5),
        stop=options_pb2.StopOptions(max_output_tokens=9, sequences=["END"]),
        load=options_pb2.LoadOptions(context_length=2048),
        messages=[
            content_pb2.Message(role=content_pb2.ROLE_USER, parts=[content_pb2.Part(text="hi")])
        ],
    )
    events = [event async for event in admin.CreateModel(request)]

    assert events[0].progress.status
    assert events[-1].completed.name == "mine:latest"
    assert ollama.sent_to("/api/create")[0].body == {
        "model": "mine:latest",
        "from": "gemma3:270m",
        "system": "be kind",
        "license": ["MIT"],
        "parameters": {"temperature": 0.5, "num_ctx": 2048, "num_predict": 9, "stop": ["END"]},
        "messages": [{"role": "user", "content": "hi"}],
    }


async def test_a_creation_does_not_pull_what_is_missing(admin: Any, ollama: ScriptedOllama) -> None:
    ollama.scripts[f"/api/blobs/{DIGEST}"] = reply(404, "")
    from_model = await refused(
        admin.CreateModel(pb.CreateModelRequest(model="mine", base_model="nope"))
    )
    from_file = await refused(
        admin.CreateModel(pb.CreateModelRequest(model="mine", files={"a.gguf": DIGEST}))
    )

    assert from_model.reason == "MODEL_NOT_FOUND"
    assert (from_file.reason, from_file.details["ErrorInfo"].metadata["digest"]) == (
        "BLOB_NOT_FOUND",
        DIGEST,
    )
    assert not ollama.sent_to("/api/create")
