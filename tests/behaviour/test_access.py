"""Who may call what: every RPC with every kind of credential, and what a principal can learn."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from eudai.v1 import (
    embedding_service_pb2 as embedding_pb,
    generation_service_pb2 as pb,
    model_service_pb2 as model_pb,
    model_service_pb2_grpc as model_rpc,
)
from eudai_server.core import credentials_file
from eudai_server.core.access import ALL_SCOPES, Scope
from eudai_server.rpc.access.authenticator import FAILURES_MAX
from eudai_server.rpc.access.policy import SCOPES
from eudai_server.rpc.access.tokens import new_token
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from jwt_signer import AUDIENCE, ISSUER, Signer, key_set
from refusal import Refusal, refused
from scripted_ollama import ENDLESS, ScriptedOllama, reply
from serving import Server, config_for, serving
from tokens_file import Metadata, TokensFile

pytestmark = pytest.mark.slow

MODEL = "gemma3:270m"
REQUEST = pb.GenerateRequest(model=MODEL, prompt="hi")
DAY = timedelta(days=1)
METHODS = [name for name in SCOPES if not name.endswith("Health/List")]
# The RPCs that name a model, with a request for one that the caller may not use.
OF_A_MODEL: dict[str, tuple[Message, str]] = {
    f"eudai.v1.{method}": (request, reason)
    for reason, requests in {
        "MODEL_NOT_FOUND": {
            "GenerationService/Generate": REQUEST,
            "GenerationService/GenerateOnce": pb.GenerateOnceRequest(request=REQUEST),
            "EmbeddingService/Embed": embedding_pb.EmbedRequest(model=MODEL, inputs=["hi"]),
            "ModelService/GetModel": model_pb.GetModelRequest(model=MODEL),
            "ModelService/PushModel": model_pb.PushModelRequest(model=MODEL),
            "ModelService/DeleteModel": model_pb.DeleteModelRequest(model=MODEL),
            "ModelService/LoadModel": model_pb.LoadModelRequest(model=MODEL),
            "ModelService/UnloadModel": model_pb.UnloadModelRequest(model=MODEL),
            "ModelService/CopyModel": model_pb.CopyModelRequest(source=MODEL, destination="x"),
        },
        "MODEL_FORBIDDEN": {
            "ModelService/PullModel": model_pb.PullModelRequest(model=MODEL),
            "ModelService/CancelPull": model_pb.CancelPullRequest(model=MODEL),
            "ModelService/CreateModel": model_pb.CreateModelRequest(
                model=MODEL, base_model="other:a"
            ),
        },
    }.items()
    for method, request in requests.items()
}
GUARDED = [name for name in METHODS if SCOPES[name]]


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokensFile:
    """An empty tokens file, which a server reads often."""
    monkeypatch.setattr(credentials_file, "INTERVAL_S", 0.01)
    return TokensFile(tmp_path / "tokens.json")


@asynccontextmanager
async def guarded(
    ollama: ScriptedOllama, tokens: TokensFile, **changes: Any
) -> AsyncIterator[Server]:
    """A server that authenticates, in front of the scripted Ollama, which it has found."""
    config = config_for(ollama.url, tokens_file=tokens.path, admin=True, **changes)
    async with serving(config) as server:
        await server.until("", "SERVING")
        yield server


async def call(server: Server, method: str, metadata: Metadata) -> str:
    """Call an RPC with an empty message; returns the reason or the code of its failure, or OK."""
    stub = server.channel.stream_stream(f"/{method}")
    try:
        ended = stub(iter([b""]), metadata=metadata, timeout=5)
        await ended.read()
        ended.cancel()  # a watch does not end
    except grpc.aio.AioRpcError as error:
        return Refusal(error).reason or error.code().name
    return "OK"


@pytest.mark.parametrize("method", GUARDED)
async def test_an_rpc_needs_a_valid_credential_with_its_scope(
    ollama: ScriptedOllama, tokens: TokensFile, method: str
) -> None:
    scope, signer = SCOPES[method], Signer("k")
    assert scope
    (jwks := tokens.path.with_name("jwks.json")).write_text(key_set(signer))
    jwt_rules = {"jwks_file": jwks, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    revoked = tokens.add()
    del tokens.entries[-1]
    forged = {
        "a JWT for another audience": signer.sign(aud="another"),
        "an expired JWT": signer.sign(exp=1),
        "a JWT of another key": Signer("k").sign(),
        "a JWT with the algorithm none": signer.forge("none"),
        "a JWT signed with the public key": signer.forge("HS256"),
    }
    wrong = {name: (("authorization", f"Bearer {token}"),) for name, token in forged.items()} | {
        "none": (),
        "unknown": (("authorization", f"Bearer {new_token()[1]}"),),
        "revoked": revoked,
        "expired": tokens.add(expires=datetime.now(UTC) - DAY),
        "in another header": (("x-authorization", tokens.add()[0][1]),),
        "another scheme": (("authorization", tokens.add()[0][1].replace("Bearer", "Basic")),),
        "no scheme": (("authorization", tokens.add()[0][1].removeprefix("Bearer ")),),
        "two": tokens.add() + tokens.add(),
        "empty": (("authorization", ""),),
        "a JWT without signature": (("authorization", "Bearer eyJhbGciOiJub25lIn0.e30."),),
    }
    other_scopes = tokens.add(scopes=ALL_SCOPES - {scope})
    right = tokens.add(scopes=[scope])
    right_jwt = (("authorization", f"Bearer {signer.sign(scope=scope)}"),)
    async with guarded(ollama, tokens, **jwt_rules) as server:
        outcomes = {name: await call(server, method, metadata) for name, metadata in wrong.items()}
        lacking = await call(server, method, other_scopes)
        answered = {await call(server, method, right), await call(server, method, right_jwt)}

    assert set(outcomes.values()) == {"UNAUTHENTICATED"}, outcomes
    assert lacking == "SCOPE_MISSING"
    assert not answered & {"UNAUTHENTICATED", "SCOPE_MISSING", "UNIMPLEMENTED"}


@pytest.mark.parametrize("method", sorted(OF_A_MODEL))
async def test_an_rpc_refuses_a_forbidden_model(
    ollama: ScriptedOllama, tokens: TokensFile, method: str
) -> None:
    request, expected = OF_A_MODEL[method]
    metadata = tokens.add(models=["other:*"])
    async with guarded(ollama, tokens) as server:
        sent = len(ollama.exchanges)
        stub = server.channel.stream_stream(
            f"/{method}", request_serializer=type(request).SerializeToString
        )
        refusal = await refused(stub(iter([request]), metadata=metadata, timeout=5))
        routes = {exchange.route for exchange in ollama.exchanges[sent:]}

    assert refusal.reason == expected
    assert routes <= {"/api/tags", "/api/ps"}  # the probe


async def test_every_registered_rpc_has_a_policy_and_only_health_is_open(server: Server) -> None:
    registered = {
        rpc.method: rpc.scope for service in server.app.parts.services
        for rpc in service.rpcs.values()
    }  # fmt: skip

    assert registered == {name: SCOPES[name] for name in registered}
    assert set(METHODS) == set(registered)
    assert [name for name, scope in registered.items() if scope is None] == [
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/Watch",
    ]


async def test_strangers_may_do_only_what_the_operator_names(ollama: ScriptedOllama) -> None:
    anonymous = frozenset({Scope.MODELS_READ})
    async with serving(config_for(ollama.url, anonymous=anonymous)) as server:
        await server.until("", "SERVING")
        outcomes = {method: await call(server, method, ()) for method in GUARDED}

    assert outcomes.pop("eudai.v1.ModelService/ListModels") == "OK"
    assert outcomes.pop("eudai.v1.ModelService/GetModel") == "INVALID_REQUEST"
    assert set(outcomes.values()) == {"SCOPE_MISSING"}


async def test_nothing_but_the_listed_services_is_served(ollama: ScriptedOllama) -> None:
    absent = [
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "grpc.channelz.v1.Channelz/GetServers",
        "grpc.admin.v1.Admin/GetServers",
        "envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus",
    ]
    async with serving(config_for(ollama.url, reflection=False)) as server:
        for method in absent:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await server.channel.stream_stream(f"/{method}")(iter([b""]), timeout=5).read()
            assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await call(server, "eudai.v1.ServerService/GetServerInfo", ()) == "OK"


async def test_a_refused_call_does_not_read_its_message(
    ollama: ScriptedOllama, tokens: TokensFile
) -> None:
    async def silent() -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b""

    async with guarded(ollama, tokens) as server:
        stub = server.channel.stream_stream("/eudai.v1.GenerationService/Generate")
        async with asyncio.timeout(5):
            refusal = await refused(stub(silent()))

    assert refusal.reason == "UNAUTHENTICATED"


async def test_a_revoked_token_ends_its_running_calls_only(
    ollama: ScriptedOllama, tokens: TokensFile
) -> None:
    ollama.scripts["/api/generate"] = ENDLESS
    revoked, kept = tokens.add(), tokens.add()
    async with guarded(ollama, tokens) as server:
        ending = server.generation.Generate(REQUEST, metadata=revoked)
        staying = server.generation.Generate(REQUEST, metadata=kept)
        await anext(aiter(ending))
        await staying.read()
        del tokens.entries[0]
        tokens.write()
        async with asyncio.timeout(5):
            refusal = await refused(ending)
        again = await call(server, "eudai.v1.ModelService/ListModels", revoked)
        for _ in range(20):
            assert (await staying.read()).WhichOneof("event")
        staying.cancel()

    assert refusal.reason == "UNAUTHENTICATED"
    assert refusal.trailers["grpc-retry-pushback-ms"] == "-1"
    assert again == "UNAUTHENTICATED"


async def test_a_call_does_not_outlive_its_token(
    ollama: ScriptedOllama, tokens: TokensFile
) -> None:
    ollama.scripts["/api/generate"] = ENDLESS
    metadata = tokens.add(expires=datetime.now(UTC) + timedelta(seconds=2))
    async with guarded(ollama, tokens) as server:
        running = server.generation.Generate(REQUEST, metadata=metadata)
        await anext(aiter(running))
        async with asyncio.timeout(10):
            refusal = await refused(running)

    assert refusal.reason == "UNAUTHENTICATED"


async def test_a_broken_file_keeps_the_tokens(
    ollama: ScriptedOllama, tokens: TokensFile, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = tokens.add()
    async with guarded(ollama, tokens) as server:
        for data in (b"{", b"[]", None):
            tokens.path.unlink() if data is None else tokens.path.write_bytes(data)
            caplog.clear()
            async with asyncio.timeout(5):
                while "is not used: it" not in caplog.text:
                    await asyncio.sleep(0.01)
            assert await call(server, "eudai.v1.ModelService/ListModels", metadata) == "OK"
        added = tokens.add()
        async with asyncio.timeout(5):
            while await call(server, "eudai.v1.ModelService/ListModels", added) != "OK":
                await asyncio.sleep(0.1)


async def test_a_removed_key_ends_the_calls_of_its_jwts(
    ollama: ScriptedOllama, tokens: TokensFile, tmp_path: Path
) -> None:
    ollama.scripts["/api/generate"] = ENDLESS
    token, old, new = tokens.add(), Signer("old"), Signer("new")
    jwks = tmp_path / "jwks.json"
    jwks.write_text(key_set(old, new))
    rules = {"jwks_file": jwks, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    async with guarded(ollama, tokens, **rules) as server:
        metadata = [(("authorization", f"Bearer {key.sign()}"),) for key in (old, new)]
        ending, staying = (
            server.generation.Generate(REQUEST, metadata=presented) for presented in metadata
        )
        await anext(aiter(ending))
        await staying.read()
        jwks.write_text(key_set(new))
        async with asyncio.timeout(5):
            refusal = await refused(ending)
        again = await call(server, "eudai.v1.GenerationService/Generate", metadata[0])
        lacking = await call(server, "eudai.v1.ModelService/ListModels", metadata[1])
        allowed = await call(server, "eudai.v1.ModelService/ListModels", token)
        for _ in range(20):
            assert (await staying.read()).WhichOneof("event")
        staying.cancel()

    assert refusal.reason == again == "UNAUTHENTICATED"
    assert lacking == "SCOPE_MISSING"
    assert allowed == "OK"


async def test_a_forbidden_model_looks_like_an_absent_one(
    ollama: ScriptedOllama, tokens: TokensFile
) -> None:
    metadata = tokens.add(models=["other:*"])
    everything = tokens.add()
    async with guarded(ollama, tokens) as server:
        models = model_rpc.ModelServiceStub(server.channel)
        health = health_pb2_grpc.HealthStub(server.channel)
        refusals = {}
        for name in ("gemma3:270m", "absent:270m"):
            request = pb.GenerateRequest(model=name, prompt="hi")
            generate = server.generation.Generate(request, metadata=metadata)
            show = models.GetModel(model_pb.GetModelRequest(model=name), metadata=metadata)
            check = health_pb2.HealthCheckRequest(service=f"model/{name}")
            with pytest.raises(grpc.aio.AioRpcError) as unhealthy:
                await health.Check(check, metadata=metadata)
            refusals[name] = [
                (refusal.code, refusal.reason, str(refusal.message).replace(name, "NAME"))
                for refusal in (await refused(generate), await refused(show))
            ] + [(unhealthy.value.code(), "", unhealthy.value.details())]
        listed = await models.ListModels(model_pb.ListModelsRequest(), metadata=metadata)
        all_models = await models.ListModels(model_pb.ListModelsRequest(), metadata=everything)
        seen = await health.Check(
            health_pb2.HealthCheckRequest(service="model/gemma3:270m"), metadata=everything
        )

    assert refusals["gemma3:270m"] == refusals["absent:270m"]
    assert refusals["gemma3:270m"][0][1] == "MODEL_NOT_FOUND"
    assert list(listed.models) == []
    assert "gemma3:270m" in [model.name for model in all_models.models]
    assert seen.status == health_pb2.HealthCheckResponse.SERVING


async def test_only_administrators_see_how_a_model_is_prompted(
    ollama: ScriptedOllama, tokens: TokensFile
) -> None:
    shown = {
        "template": "T", "system": "S", "modelfile": "M", "parameters": "stop x",
        "messages": [{"role": "user", "content": "hi"}], "capabilities": ["completion"],
        "details": {"family": "gemma3"}, "model_info": {},
    }  # fmt: skip
    ollama.scripts["/api/show"] = reply(200, shown)
    reader, administrator = tokens.add(scopes=[Scope.MODELS_READ]), tokens.add()
    async with guarded(ollama, tokens) as server:
        models = model_rpc.ModelServiceStub(server.channel)
        request = model_pb.GetModelRequest(model="gemma3:270m")
        read = await models.GetModel(request, metadata=reader)
        full = await models.GetModel(request, metadata=administrator)

    assert (full.template, full.system, full.modelfile, len(full.messages)) == ("T", "S", "M", 1)
    assert (read.template, read.system, read.modelfile, len(read.messages)) == ("", "", "", 0)
    assert read.parameters == full.parameters == "stop x"


async def test_a_peer_that_guesses_is_throttled_but_strangers_are_not(
    ollama: ScriptedOllama, tokens: TokensFile
) -> None:
    wrong = (("authorization", "Bearer guess"),)
    async with guarded(ollama, tokens, anonymous=frozenset({Scope.MODELS_READ})) as server:
        method = "eudai.v1.ModelService/ListModels"
        outcomes = [await call(server, method, wrong) for _ in range(3 * FAILURES_MAX)]
        stranger = await call(server, method, ())

    assert outcomes[:FAILURES_MAX] == ["UNAUTHENTICATED"] * FAILURES_MAX
    assert "QUOTA_EXCEEDED" in outcomes[FAILURES_MAX:]
    assert stranger == "OK"


async def test_the_log_names_principals_and_denied_peers_but_no_credential(
    ollama: ScriptedOllama, tokens: TokensFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "eudai_server")
    metadata = tokens.add()
    method = "eudai.v1.ModelService/ListModels"
    async with guarded(ollama, tokens) as server:
        assert await call(server, method, metadata) == "OK"
        assert await call(server, method, ()) == "UNAUTHENTICATED"

    granted, denied = [
        fields for record in caplog.records
        if (fields := getattr(record, "fields", {})).get("method") == method
    ]  # fmt: skip
    assert granted["principal"] == "name-0"
    assert denied["outcome"] == "UNAUTHENTICATED"
    assert denied["peer"].startswith("ipv4:127.0.0.1:")
    secret = metadata[0][1].split("_")[2]
    assert secret not in caplog.text + json.dumps([granted, denied], default=str)


async def test_only_owner_and_group_may_connect_to_a_unix_socket(
    ollama: ScriptedOllama, tmp_path: Path
) -> None:
    path = tmp_path / "eudai.sock"
    async with serving(config_for(ollama.url, listen=f"unix:{path}")):
        mode = path.stat().st_mode & 0o777

    assert mode == 0o660
