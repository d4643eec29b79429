"""Embedding a batch of texts: the order of the vectors, and failures that name the input."""

from collections.abc import Iterable

import grpc
import pytest
from eudai.v1 import embedding_service_pb2 as pb, embedding_service_pb2_grpc as rpc, options_pb2
from refusal import Refusal
from scripted_ollama import Exchange, Script, ScriptedOllama, error, reply
from serving import Server, config_for, serving

MODEL = "all-minilm:latest"
TOO_LONG = "the input length exceeds the context length"


def vectors(exchange: Exchange) -> Script:
    """One vector for each text, which identifies the text; a text that begins with "long" fails."""
    inputs = exchange.body.get("input") or []
    if any(text.startswith("long") for text in inputs):
        return error(400, TOO_LONG)
    return reply(
        200,
        {"embeddings": [[float(text), 1.0] for text in inputs], "prompt_eval_count": len(inputs)},
    )


@pytest.fixture
def embedder(ollama: ScriptedOllama) -> ScriptedOllama:
    """A scripted Ollama that embeds."""
    ollama.models[MODEL] = {"digest": "3c" * 32}
    ollama.scripts["/api/embed"] = vectors
    return ollama


async def embed(server: Server, **fields: object) -> list[pb.EmbedResponse]:
    """Make one call, and return every response."""
    fields.setdefault("model", MODEL)
    request = pb.EmbedRequest(**fields)  # type: ignore[arg-type]
    call = rpc.EmbeddingServiceStub(server.channel).Embed(request, timeout=60)
    return [response async for response in call]


async def refusal(server: Server, **fields: object) -> Refusal:
    """Make a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await embed(server, **fields)
    return Refusal(failure.value)


@pytest.mark.usefixtures("embedder")
async def test_a_batch_is_answered_in_order_and_in_parts(server: Server) -> None:
    responses = await embed(server, inputs=[str(index) for index in range(100)])
    values = [embedding.values[0] for response in responses for embedding in response.embeddings]

    assert values == list(range(100))
    assert len(responses) > 1
    assert sum(response.input_tokens for response in responses) == 100
    assert (responses[0].model, responses[0].digest) == (MODEL, "sha256:" + "3c" * 32)
    assert not responses[1].model


async def test_a_failure_after_some_vectors_may_not_be_retried(
    server: Server, embedder: ScriptedOllama
) -> None:
    def busy_after_the_first(exchange: Exchange) -> Script:
        is_later = "16" in exchange.body.get("input", ())
        return error(503, "server busy, please try again") if is_later else vectors(exchange)

    embedder.scripts["/api/embed"] = busy_after_the_first
    refused = await refusal(server, inputs=[str(index) for index in range(20)])

    assert refused.reason == "QUEUE_FULL"
    assert refused.trailers["grpc-retry-pushback-ms"] == "-1"


@pytest.mark.usefixtures("embedder")
async def test_a_long_input_is_named_after_the_vectors_before_it(server: Server) -> None:
    inputs = [str(index) for index in range(20)] + ["long"] + ["1"] * 10
    call = rpc.EmbeddingServiceStub(server.channel).Embed(
        pb.EmbedRequest(model=MODEL, inputs=inputs), timeout=60
    )
    first = await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()
    refused = Refusal(failure.value)

    assert isinstance(first, pb.EmbedResponse)
    assert len(first.embeddings) == 16
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "CONTEXT_LENGTH_EXCEEDED",
    )
    assert refused.fields == ["inputs[20]"]


async def test_the_request_reaches_ollama(server: Server, embedder: ScriptedOllama) -> None:
    await embed(
        server, inputs=["1"], dimensions=2, truncate=True, load=options_pb2.LoadOptions(threads=2)
    )
    load, body = (exchange.body for exchange in embedder.sent_to("/api/embed"))

    assert load["input"] == []
    assert (body["dimensions"], body["truncate"], body["options"]) == (2, True, {"num_thread": 2})


@pytest.mark.usefixtures("embedder")
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"inputs": ["1"], "model": ""}, ["model"]),
        ({"inputs": []}, ["inputs"]),
        ({"inputs": ["1"] * 4097}, ["inputs"]),
        ({"inputs": ["1"], "dimensions": 0}, ["dimensions"]),
        ({"inputs": ["1"], "dimensions": 3}, ["dimensions"]),
        ({"inputs": ["1"], "expected_digest": "x"}, ["expected_digest"]),
    ],
)
async def test_each_violation_names_its_field(
    server: Server, fields: dict[str, object], expected: list[str]
) -> None:
    assert (await refusal(server, **fields)).fields == expected


@pytest.mark.usefixtures("embedder")
async def test_vectors_of_another_model_are_refused(server: Server) -> None:
    assert (
        await refusal(server, inputs=["1"], expected_digest="sha256:" + "0" * 64)
    ).reason == "DIGEST_MISMATCH"


async def test_load_options_need_the_operators_permission(embedder: ScriptedOllama) -> None:
    async with serving(config_for(embedder.url, load_options=False)) as server:
        refused = await refusal(server, inputs=["1"], load=options_pb2.LoadOptions(threads=2))

    assert refused.reason == "LOAD_OPTIONS_FORBIDDEN"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            error(501, "This server does not support embeddings. Start it with `--embeddings`"),
            "CAPABILITY_UNSUPPORTED",
        ),
        (error(404, 'model "x" not found, try pulling it first'), "MODEL_NOT_FOUND"),
        (reply(200, {"embeddings": [], "prompt_eval_count": 0}), "BACKEND_STREAM_INTERRUPTED"),
        (reply(200, "nonsense"), "BACKEND_FAILURE"),
    ],
)
async def test_failures_of_ollama_have_reasons(
    server: Server, embedder: ScriptedOllama, script: Script, reason: str
) -> None:
    embedder.scripts["/api/embed"] = script

    assert (await refusal(server, inputs=["1"])).reason == reason


async def test_an_unreachable_ollama_is_reported(server: Server, embedder: ScriptedOllama) -> None:
    await embed(server, inputs=["1"])
    await embedder.stop()

    assert (await refusal(server, inputs=["1"])).reason == "BACKEND_UNREACHABLE"


async def test_similar_sentences_have_similar_vectors(real_server: Server) -> None:
    responses = await embed(
        real_server, inputs=["a cat sat", "the cat is sitting", "stock prices fell"]
    )
    cat, sitting, stocks = (
        embedding.values for response in responses for embedding in response.embeddings
    )
    near, far = _cosine(cat, sitting), _cosine(cat, stocks)
    print(f"cosine {near:.2f} of two sentences of one meaning, {far:.2f} of two of none")

    assert len(cat) == 384
    assert near > 0.7
    assert far < 0.3


async def test_a_real_input_that_is_too_long_is_named(real_server: Server) -> None:
    assert (await refusal(real_server, inputs=["short", "word " * 1000])).fields == ["inputs[1]"]
    assert len(await embed(real_server, inputs=["short", "word " * 1000], truncate=True)) == 1


async def test_a_real_model_without_the_capability_does_not_embed(real_server: Server) -> None:
    assert (
        await refusal(real_server, model="gemma3:270m", inputs=["x"])
    ).reason == "CAPABILITY_UNSUPPORTED"


def _cosine(one: Iterable[float], other: Iterable[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))  # the vectors have length 1
