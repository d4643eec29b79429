"""Fifty rotations of tokens and of the key set under load, and how fast a revocation acts."""

import asyncio
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from eudai.v1 import (
    generation_service_pb2 as pb,
    server_service_pb2 as server_pb,
    server_service_pb2_grpc as server_rpc,
)
from eudai_server.core import credentials_file
from eudai_server.rpc.access import authenticator
from jwt_signer import AUDIENCE, ISSUER, Signer, key_set
from load import under_load
from scripted_ollama import ENDLESS, ScriptedOllama
from serving import Server, config_for, serving
from tokens_file import Metadata, TokensFile

pytestmark = pytest.mark.slow

ROTATIONS = 50


def presented(key: Signer) -> Metadata:
    """The metadata with a JSON Web Token that a key has signed."""
    return (("authorization", f"Bearer {key.sign(scope='server.read')}"),)


async def is_accepted(server: Server, metadata: Metadata) -> bool:
    """Whether a call with a credential is answered."""
    stub = server_rpc.ServerServiceStub(server.channel)
    try:
        await stub.GetServerInfo(server_pb.GetServerInfoRequest(), metadata=metadata, timeout=10)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            raise
        return False
    return True


async def until_accepted(server: Server, metadata: Metadata) -> None:
    """Wait until a credential is valid."""
    async with asyncio.timeout(20):
        while not await is_accepted(server, metadata):
            await asyncio.sleep(0.005)


async def end_of(call: Any) -> grpc.StatusCode:
    """Read a stream to its end; returns its code."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_rotations_under_load_fail_no_call(
    ollama: ScriptedOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials_file, "INTERVAL_S", 0.005)
    # This test presents new credentials until they are accepted.
    monkeypatch.setattr(authenticator, "FAILURES_MAX", 1_000_000)
    tokens, kept = TokensFile(tmp_path / "tokens.json"), Signer("kept")
    token = tokens.add()
    jwks = tmp_path / "jwks.json"
    jwks.write_text(key_set(kept))
    config = config_for(
        ollama.url,
        tokens_file=tokens.path,
        jwks_file=jwks,
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
    )
    async with serving(config) as server:
        await server.until("", "SERVING")
        calls = [partial(is_accepted, server, metadata) for metadata in (token, presented(kept))]
        async with under_load(*calls) as outcomes:
            for number in range(ROTATIONS):
                new = Signer(f"new-{number}")
                jwks.write_text(key_set(kept, new))
                added = tokens.add()
                await until_accepted(server, presented(new))
                await until_accepted(server, added)
                del tokens.entries[1:]
                tokens.write()

    print(json.dumps({"rotations": 2 * ROTATIONS, "answered": outcomes[True]}))
    assert outcomes[False] == 0
    assert outcomes[True] >= 2 * ROTATIONS


async def test_a_revoked_token_ends_its_stream_soon(ollama: ScriptedOllama, tmp_path: Path) -> None:
    """With the interval of production."""
    ollama.scripts["/api/generate"] = ENDLESS
    tokens = TokensFile(tmp_path / "tokens.json")
    credentials = [tokens.add() for _ in range(4)]
    took_ms = []
    async with serving(config_for(ollama.url, tokens_file=tokens.path)) as server:
        await server.until("", "SERVING")
        request = pb.GenerateRequest(model="gemma3:270m", prompt="hi")
        for metadata in credentials:
            running = server.generation.Generate(request, metadata=metadata)
            assert (await running.read()).WhichOneof("event")
            del tokens.entries[0]
            tokens.write()
            begin_s = time.monotonic()
            async with asyncio.timeout(10):
                code = await end_of(running)
            assert code is grpc.StatusCode.UNAUTHENTICATED
            took_ms.append(round((time.monotonic() - begin_s) * 1000))

    print(json.dumps({"revoked_to_ended_ms": took_ms}))
    assert len(took_ms) == len(credentials)
