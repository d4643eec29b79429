"""The way to Ollama: TLS with a private CA, a bearer token, and versions that are vulnerable."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import DAY, Authority, Pair
from eudai.v1 import (
    generation_service_pb2 as pb,
    model_service_pb2 as model_pb,
    model_service_pb2_grpc as model_rpc,
)
from eudai_server.config import Config, ConfigError
from eudai_server.core import credentials_file
from eudai_server.ollama.state.flaws import FIXED_IN, flaw_of
from refusal import drained, refused
from scripted_ollama import ScriptedOllama, reply
from serving import collect, config_for, kinds, serving

TOKEN = "canary-4711"  # noqa: S105 - of a test
REQUEST = pb.GenerateRequest(model="gemma3:270m", prompt="hi")


@asynccontextmanager
async def encrypted(ollama: ScriptedOllama, folder: Path, pair: Pair) -> AsyncIterator[str]:
    """A proxy that ends TLS in front of the scripted Ollama; yields its URL."""
    cert, key = folder / "proxy.pem", folder / "proxy.key"
    cert.write_bytes(pair.cert)
    key.write_bytes(pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    port = int(ollama.url.rpartition(":")[2])

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, upstream), copy(upstream_reader, writer))

    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context) as proxy:
        yield f"https://localhost:{proxy.sockets[0].getsockname()[1]}"


@pytest.fixture
def authority() -> Authority:
    """The CA of Ollama's proxy."""
    return Authority()


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> dict[str, Path]:
    """The settings of the server that name the CA and a token."""
    ca, token = tmp_path / "ca.pem", tmp_path / "token"
    ca.write_bytes(authority.pem)
    token.write_text(f"{TOKEN}\n")
    return {"ollama_ca_file": ca, "ollama_token_file": token}


async def test_an_ollama_with_a_certificate_of_the_ca_is_used(
    ollama: ScriptedOllama, tmp_path: Path, authority: Authority, files: dict[str, Path]
) -> None:
    async with (
        encrypted(ollama, tmp_path, authority.issue()) as url,
        serving(config_for(url, **files)) as server,
    ):
        await server.until("", "SERVING")
        events = await collect(server, prompt="hi")

    assert kinds(events)[-1] == "finished"
    assert {exchange.headers["authorization"] for exchange in ollama.exchanges} == {
        f"Bearer {TOKEN}"
    }


@pytest.fixture(params=["another CA", "another name", "expired"])
def wrong_pair(request: pytest.FixtureRequest, authority: Authority) -> Pair:
    """A certificate that must not be trusted."""
    return {
        "another CA": Authority().issue(),
        "another name": authority.issue(dns=["other.example"]),
        "expired": authority.issue(valid=-DAY),
    }[request.param]


async def test_an_ollama_that_is_not_trusted_gets_nothing_and_the_log_tells_why(
    ollama: ScriptedOllama,
    tmp_path: Path,
    files: dict[str, Path],
    caplog: pytest.LogCaptureFixture,
    wrong_pair: Pair,
) -> None:
    caplog.set_level(logging.WARNING, "eudai_server")
    async with (
        encrypted(ollama, tmp_path, wrong_pair) as url,
        serving(config_for(url, **files)) as server,
        asyncio.timeout(10),
    ):
        while not caplog.records:
            await asyncio.sleep(0.01)
        refusal = await refused(server.generation.Generate(REQUEST))

    [fields] = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert fields["cause"].startswith("the certificate is not valid: ")
    assert refusal.reason == "BACKEND_UNREACHABLE"
    assert "certificate" not in str(refusal.message)
    assert ollama.exchanges == []
    assert TOKEN not in caplog.text


async def test_a_new_token_is_sent_and_an_invalid_file_keeps_the_old_one(
    ollama: ScriptedOllama,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(credentials_file, "INTERVAL_S", 0.01)
    file = tmp_path / "token"
    file.write_text("first")
    async with serving(config_for(ollama.url, ollama_token_file=file)) as server:

        async def sent() -> str:
            await collect(server, prompt="hi")
            return ollama.sent_to("/api/generate")[-1].headers["authorization"]

        await server.until("", "SERVING")
        assert await sent() == "Bearer first"
        file.write_text("second")
        async with asyncio.timeout(10):
            while await sent() != "Bearer second":
                await asyncio.sleep(0.01)
        file.write_text("two\r\nX-Evil: lines")
        async with asyncio.timeout(10):
            while "is not used: it must have one token" not in caplog.text:
                await asyncio.sleep(0.01)
        assert await sent() == "Bearer second"

    assert "Evil" not in caplog.text


@pytest.mark.parametrize(
    ("variable", "content", "complaint"),
    [
        ("OLLAMA_TOKEN_FILE", None, "cannot be read"),
        ("OLLAMA_TOKEN_FILE", "", "must have one token"),
        ("OLLAMA_TOKEN_FILE", "a b", "must have one token"),
        ("OLLAMA_TOKEN_FILE", "x" * 8193, "must have one token"),
        ("OLLAMA_CA_FILE", None, "cannot be read"),
        ("OLLAMA_CA_FILE", "no certificate", "has no valid certificate"),
    ],
)
async def test_an_invalid_file_at_the_start_is_named(
    tmp_path: Path, variable: str, content: str | None, complaint: str
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_text(content)
    env = {"OLLAMA_BASE_URL": "https://localhost:1", variable: str(file)}
    config = Config.from_env(env | {"EUDAI_LISTEN": "127.0.0.1:0"})

    with pytest.raises(ConfigError, match=f"^{variable} {complaint}"):
        async with serving(config):
            pass


@pytest.mark.parametrize(
    ("version", "is_flawed"),
    [
        ("0.1.33", True),
        ("0.17.0", True),
        ("0.17.1", True),
        ("0.20.2", True),
        ("0.20.3-rc1", True),
        ("0.20.3", False),
        ("0.21.0-rc0", False),
        ("0.32.15", False),
        ("v1.0.0+local", False),
        ("0.0.0", True),
        ("", True),
        ("main", True),
        ("9" * 5000, True),
    ],
)
def test_versions_before_a_fix_are_vulnerable(version: str, *, is_flawed: bool) -> None:
    assert bool(flaw_of(version)) is is_flawed


def test_the_newest_fix_is_the_last_of_the_table() -> None:
    assert list(FIXED_IN) == sorted(FIXED_IN)


@pytest.mark.parametrize("strict", [False, True])
async def test_a_vulnerable_ollama_is_reported_once_and_refused_only_if_strict(
    ollama: ScriptedOllama, caplog: pytest.LogCaptureFixture, *, strict: bool
) -> None:
    caplog.set_level(logging.WARNING, "eudai_server")
    ollama.scripts["/api/version"] = reply(200, {"version": "0.17.0"})
    async with serving(config_for(ollama.url, strict=strict)) as server, asyncio.timeout(20):
        while "CVE-2026-7482" not in caplog.text:
            await asyncio.sleep(0.01)
        if strict:
            refusal = await refused(server.generation.Generate(REQUEST))
            assert await server.health("") == "NOT_SERVING"
            ollama.scripts["/api/version"] = reply(200, {"version": "0.32.15"})
        await server.until("", "SERVING")
        events = await collect(server, prompt="hi")

    assert kinds(events)[-1] == "finished"
    assert caplog.text.count("CVE-2026-7482") == 1
    if strict:
        assert refusal.reason == "BACKEND_UNSUPPORTED"
        assert refusal.details["ErrorInfo"].metadata["ollama_version"] == "0.17.0"


DIGEST = "sha256:" + "ab" * 32


async def upload() -> AsyncIterator[model_pb.UploadBlobRequest]:
    """An upload of a small file."""
    yield model_pb.UploadBlobRequest(digest=DIGEST, data=b"hello")


# The routes by which the server finds out what Ollama is.
PROBED = {"/api/tags", "/api/ps", "/api/version", "/api/status"}
# How each RPC that changes Ollama is called.
CHANGES: dict[str, Any] = {
    "PullModel": lambda stub: drained(stub.PullModel(model_pb.PullModelRequest(model="gemma3"))),
    "CreateModel from a file": lambda stub: drained(
        stub.CreateModel(model_pb.CreateModelRequest(model="mine", files={"a.gguf": DIGEST}))
    ),
    "UploadBlob": lambda stub: stub.UploadBlob(upload()),
    "DeleteModel": lambda stub: stub.DeleteModel(model_pb.DeleteModelRequest(model="gemma3:270m")),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_refused_ollama_is_not_changed(
    ollama: ScriptedOllama, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    ollama.scripts["/api/version"] = reply(200, {"version": "0.17.0"})
    async with (
        serving(config_for(ollama.url, strict=True, admin=True)) as server,
        asyncio.timeout(20),
    ):
        while "CVE-2026-7482" not in caplog.text:
            await asyncio.sleep(0.01)
        refusal = await refused(CHANGES[name](model_rpc.ModelServiceStub(server.channel)))

    assert refusal.reason == "BACKEND_UNSUPPORTED"
    assert refusal.details["ErrorInfo"].metadata["ollama_version"] == "0.17.0"
    assert {exchange.route for exchange in ollama.exchanges} <= PROBED


async def test_a_strict_server_sends_nothing_before_it_knows_the_version(
    ollama: ScriptedOllama,
) -> None:
    known = asyncio.Event()
    ollama.scripts["/api/version"] = [known, *reply(200, {"version": "0.32.15"})]
    async with serving(config_for(ollama.url, strict=True)) as server, asyncio.timeout(20):
        refusal = await refused(server.generation.Generate(REQUEST))
        sent = {exchange.route for exchange in ollama.exchanges}
        known.set()
        await server.until("", "SERVING")
        events = await collect(server, prompt="hi")

    assert refusal.code is grpc.StatusCode.UNAVAILABLE
    assert sent <= PROBED
    assert kinds(events)[-1] == "finished"


async def test_a_strict_server_notices_an_ollama_that_was_replaced_between_two_probes(
    ollama: ScriptedOllama,
) -> None:
    async with serving(config_for(ollama.url, strict=True)) as server, asyncio.timeout(20):
        await server.until("", "SERVING")
        ollama.scripts["/api/version"] = reply(200, {"version": "0.17.0"})
        await server.until("", "NOT_SERVING")
        refusal = await refused(server.generation.Generate(REQUEST))

    assert refusal.reason == "BACKEND_UNSUPPORTED"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_proxy_that_denies_access_is_named_in_the_log(
    ollama: ScriptedOllama, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.WARNING, "eudai_server")
    for route in ("/api/tags", "/api/ps", "/api/version", "/api/status"):
        ollama.scripts[route] = reply(status, "denied", "text/html")
    async with serving(config_for(ollama.url)) as server, asyncio.timeout(10):
        while not caplog.records:
            await asyncio.sleep(0.01)
        assert await server.health("") == "NOT_SERVING"

    assert "OLLAMA_TOKEN_FILE" in caplog.records[0].fields["cause"]  # type: ignore[attr-defined]
