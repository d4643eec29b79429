"""The same scenarios give the same outcome on the scripted Ollama and the real one."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from eudai.v1 import content_pb2, generation_service_pb2 as pb, options_pb2
from refusal import Refusal
from scripted_ollama import Answer, ScriptedOllama, done, error, line, stream
from serving import Server, collect, config_for, kinds, serving

EMBEDDER = "all-minilm:latest"
SHORT = options_pb2.StopOptions(max_output_tokens=4)
# Four tokens are too few for it, so the answer is cut and the caller is warned.
CITY = (
    '{"type":"object","properties":{"name":{"type":"string"},"country":{"type":"string"}},'
    '"required":["name","country"]}'
)
WORD = line(response=" the", done=False)
TOKEN = line(
    response=" the",
    done=False,
    logprobs=[{"token": " the", "logprob": -1.0, "bytes": [32, 116, 104, 101]}],
)
CHAT_WORD = line(message={"role": "assistant", "content": " the"}, done=False)
TOO_LONG = (
    '{"error":{"code":400,"message":"request (6002 tokens) exceeds the available context size'
    ' (4096 tokens), try increasing it"}}'
)
NO_THINKING = '"gemma3:270m" does not support thinking'


def conversation(*texts: str) -> pb.Conversation:
    """A conversation of a user and an assistant."""
    roles = (content_pb2.ROLE_USER, content_pb2.ROLE_ASSISTANT)
    turns = (
        content_pb2.Message(role=roles[index % 2], parts=[content_pb2.Part(text=text)])
        for index, text in enumerate(texts)
    )
    return pb.Conversation(messages=turns)


# The request, the double's answers, and the expected kinds of events or the reason of a refusal.
SCENARIOS: dict[str, tuple[dict[str, Any], dict[str, Answer], list[str] | str]] = {
    "a prompt": ({"prompt": "The capital of France is"}, {}, ["started", "delta", "finished"]),
    "a raw prompt": (
        {"raw_prompt": "The capital of France is"},
        {},
        ["started", "delta", "finished"],
    ),
    "a conversation": (
        {"conversation": conversation("Hi", "Hello", "How are you?"), "system": "Be kind."},
        {"/api/chat": stream(CHAT_WORD, CHAT_WORD, done("length"))},
        ["started", "delta", "finished"],
    ),
    "a schema": (
        {"prompt": "A city:", "format": pb.OutputFormat(json_schema=CITY)},
        {},
        ["started", "delta", "warning", "finished"],
    ),
    "log probabilities": (
        {"prompt": "The capital", "logprobs": pb.LogprobOptions(alternatives=2)},
        {"/api/generate": stream(TOKEN, TOKEN, done("length"))},
        ["started", "delta", "finished"],
    ),
    "load options": (
        {"prompt": "x", "load": options_pb2.LoadOptions(context_length=2048)},
        {},
        ["started", "delta", "finished"],
    ),
    "dropping the oldest messages": (
        {
            "conversation": conversation("hello " * 2000, "hi " * 1500, "tell me " * 500),
            "context_overflow": pb.CONTEXT_OVERFLOW_DROP_OLDEST,
        },
        {
            "/api/chat": lambda exchange: (
                stream(CHAT_WORD, done()) if exchange.body["truncate"] else error(400, TOO_LONG)
            )
        },
        ["warning", "started", "delta", "finished"],
    ),
    "too long a conversation": (
        {"conversation": conversation("word " * 6000)},
        {"/api/chat": error(400, TOO_LONG)},
        "CONTEXT_LENGTH_EXCEEDED",
    ),
    "too long a prompt": (
        {"prompt": "word " * 6000},
        {"/api/generate": error(400, TOO_LONG)},
        "CONTEXT_LENGTH_EXCEEDED",
    ),
    "too long a raw prompt": (
        {"raw_prompt": "word " * 6000},
        {"/api/generate": error(400, TOO_LONG)},
        "CONTEXT_LENGTH_EXCEEDED",
    ),
    "an unknown model": ({"model": "nope", "prompt": "x"}, {}, "MODEL_NOT_FOUND"),
    "an unknown model and a conversation": (
        {"model": "nope", "conversation": conversation("x")},
        {},
        "MODEL_NOT_FOUND",
    ),
    "a model in the cloud": (
        {"model": "nope:cloud", "prompt": "x"},
        {},
        "CLOUD_DISABLED",
    ),
    "a model that only embeds": (
        {"model": EMBEDDER, "prompt": "x"},
        {"load": error(400, '"all-minilm:latest" does not support generate')},
        "CAPABILITY_UNSUPPORTED",
    ),
    "an infill by a model that cannot": (
        {"infill": pb.Infill(prefix="a", suffix="b")},
        {
            "/api/generate": error(
                400, "registry.ollama.ai/library/gemma3:270m does not support insert"
            )
        },
        "CAPABILITY_UNSUPPORTED",
    ),
    "reasoning by a model that cannot": (
        {"prompt": "x", "reasoning": pb.ReasoningOptions(effort=pb.REASONING_EFFORT_DEFAULT)},
        {"/api/generate": error(400, NO_THINKING)},
        "CAPABILITY_UNSUPPORTED",
    ),
    "another digest": (
        {"prompt": "x", "expected_digest": "sha256:" + "0" * 64},
        {},
        "DIGEST_MISMATCH",
    ),
}


@pytest.fixture(params=["scripted", "real"])
async def either(
    request: pytest.FixtureRequest, ollama: ScriptedOllama, real_url: str
) -> AsyncIterator[tuple[Server, ScriptedOllama | None]]:
    """A server in front of the scripted or the real Ollama."""
    scripted = ollama if request.param == "scripted" else None
    async with serving(config_for(scripted.url if scripted else real_url)) as server:
        await server.until("", "SERVING")
        yield server, scripted


class Mine:
    """A model that a test creates, replaces and loads with Ollama's own API."""

    def __init__(self, http: httpx.AsyncClient, scripted: ScriptedOllama | None, name: str) -> None:
        self.name = name
        self._http = http
        self._scripted = scripted

    async def create(self, system: str) -> None:
        """Create the model, or replace it."""
        if self._scripted:
            self._scripted.models[self.name] = {"digest": system.ljust(64, "0")}
            return
        body = {"model": self.name, "from": "gemma3:270m", "system": system, "stream": False}
        (await self._http.post("/api/create", json=body)).raise_for_status()

    async def delete(self) -> None:
        """Delete the model."""
        if not self._scripted:
            await self.ask(keep_alive=0)
            await self._http.request("DELETE", "/api/delete", json={"model": self.name})

    async def ask(self, **fields: object) -> str:
        """Send a request with or without a prompt, and return the reason of its end."""
        body = {"model": self.name, "stream": False, **fields}
        answer = await self._http.post("/api/generate", json=body)
        return str(answer.json()["done_reason"])

    async def digests(self, route: str) -> list[str]:
        """The digests of the model in a list of Ollama."""
        rows = (await self._http.get(route)).json()["models"]
        return [row["digest"] for row in rows if row["name"] == self.name]


@pytest.fixture
async def mine(
    request: pytest.FixtureRequest, ollama: ScriptedOllama, real_url: str
) -> AsyncIterator[Mine]:
    """A model for this test, in the scripted or the real Ollama."""
    scripted = ollama if request.param == "scripted" else None
    url = scripted.url if scripted else real_url
    fresh = httpx.Limits(
        max_keepalive_connections=0
    )  # the double answers one request on each connection
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=fresh) as http:
        model = Mine(http, scripted, f"faithful-{uuid.uuid4().hex[:8]}:latest")
        await model.create("one")
        yield model
        await model.delete()


@pytest.mark.parametrize("mine", ["scripted", "real"], indirect=True)
async def test_a_load_that_keeps_nothing_is_an_unload(mine: Mine) -> None:
    cold = await mine.ask(keep_alive=0)
    after_cold = await mine.digests("/api/ps")
    warm = await mine.ask()
    after_load = await mine.digests("/api/ps")
    unload = await mine.ask(keep_alive=0)

    assert (cold, after_cold) == ("unload", [])
    assert (warm, after_load) == ("load", await mine.digests("/api/tags"))
    assert unload == "unload"


@pytest.mark.parametrize("mine", ["scripted", "real"], indirect=True)
async def test_a_replaced_model_keeps_its_old_digest_in_memory(mine: Mine) -> None:
    await mine.ask()
    old = await mine.digests("/api/tags")
    await mine.create("two")

    assert await mine.digests("/api/ps") == old
    assert await mine.digests("/api/tags") != old


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_the_double_agrees_with_the_real_ollama(
    either: tuple[Server, ScriptedOllama | None], scenario: str
) -> None:
    server, scripted = either
    request, answers, expected = SCENARIOS[scenario]
    if scripted:
        scripted.scripts.update({"/api/generate": stream(WORD, WORD, done("length")), **answers})
        if "load" in answers:
            scripted.models[EMBEDDER] = {"digest": "0" * 64}
            scripted.load_script = answers["load"]  # type: ignore[assignment]
    if isinstance(expected, str):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await collect(server, stop=SHORT, **request)
        assert Refusal(failure.value).reason == expected
    else:
        events = await collect(server, stop=SHORT, **request)
        assert [
            kind for index, kind in enumerate(kinds(events)) if kind not in kinds(events)[:index]
        ] == expected
        assert events[-1].finished.usage.output_tokens > 0
        assert events[-1].finished.reason in (pb.FINISH_REASON_LENGTH, pb.FINISH_REASON_STOP)
