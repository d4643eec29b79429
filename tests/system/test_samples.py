"""The samples for gateways: they name every method, and Envoy enforces its sample."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from certificates import Authority, Pair
from eudai.v1 import (
    generation_service_pb2 as pb,
    generation_service_pb2_grpc as rpc,
    model_service_pb2 as model_pb,
    model_service_pb2_grpc as model_rpc,
)
from eudai_server.core.access import Scope
from eudai_server.rpc.access.policy import SCOPES
from processes import BIN, ROOT, free_port, spawn, wait_for_port
from scripted_ollama import ScriptedOllama
from serving import config_for, serving

SAMPLES = ROOT / "docs/samples"
ENVOY = BIN / "envoy"
CHAT = "spiffe://example.org/ns/apps/sa/chat"
OPERATOR = "spiffe://example.org/ns/apps/sa/operator"


@pytest.mark.parametrize("name", ["envoy.yaml", "istio.yaml"])
def test_a_sample_has_a_rule_for_every_method(name: str) -> None:
    text = (SAMPLES / name).read_text()
    named = set(re.findall(r"/(eudai\.v1\.\w+/\w+)", text))

    assert named == {method for method in SCOPES if method.startswith("eudai.")}
    assert "/grpc.reflection.v1" in text
    assert "/grpc.health.v1.Health/" in text


@pytest.mark.parametrize("name", ["envoy.yaml", "istio.yaml"])
def test_administration_has_a_rule_of_its_own(name: str) -> None:
    """The methods of one scope stand together, and no others between them."""
    methods = re.findall(r"/(eudai\.v1\.\w+/\w+)", (SAMPLES / name).read_text())
    admin = [SCOPES[method] is Scope.MODELS_ADMIN for method in methods]

    assert admin.count(True) > 5
    assert sorted(admin[admin.index(True) :], reverse=True) == admin[admin.index(True) :]


@pytest.fixture
async def edge(ollama: ScriptedOllama, tmp_path: Path, authority: Authority) -> AsyncIterator[str]:
    """The sample of Envoy in front of a server; yields its address."""
    if not ENVOY.exists():
        pytest.skip("Envoy is not installed; make clients installs it")
    pair, port = authority.issue(), free_port()
    for name, data in (("tls.crt", pair.cert), ("tls.key", pair.key), ("ca.crt", authority.pem)):
        (tmp_path / name).write_bytes(data)
    async with serving(config_for(ollama.url, admin=True)) as server:
        await server.until("", "SERVING")
        text = (SAMPLES / "envoy.yaml").read_text().replace("/etc/envoy/", f"{tmp_path}/")
        text = text.replace("0.0.0.0, port_value: 8443", f"127.0.0.1, port_value: {port}")
        upstream = server.address.rpartition(":")[2]
        text = text.replace(
            "address: eudai, port_value: 50051", f"address: 127.0.0.1, port_value: {upstream}"
        )
        (tmp_path / "envoy.yaml").write_text(text)
        process = spawn(
            ENVOY, "--config-path", tmp_path / "envoy.yaml", "--disable-hot-restart",
            "--concurrency", "1", "--log-level", "error",
        )  # fmt: skip
        try:
            wait_for_port(port)
            yield f"localhost:{port}"
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def authority() -> Authority:
    """The CA of Envoy and of the workloads."""
    return Authority()


async def codes_of(edge: str, authority: Authority, workload: Pair) -> list[grpc.StatusCode]:
    """How a generation and a deletion of this workload end."""
    credentials = grpc.ssl_channel_credentials(authority.pem, workload.key, workload.cert)
    async with grpc.aio.secure_channel(edge, credentials) as channel:
        request = pb.GenerateRequest(model="gemma3:270m", prompt="hi")
        generate = rpc.GenerationServiceStub(channel).GenerateOnce(
            pb.GenerateOnceRequest(request=request), timeout=20
        )
        delete = model_rpc.ModelServiceStub(channel).DeleteModel(
            model_pb.DeleteModelRequest(model="absent", allow_missing=True), timeout=20
        )
        return [await generate.code(), await delete.code()]


async def test_envoy_lets_a_workload_call_only_its_methods(edge: str, authority: Authority) -> None:
    ok, denied = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
    chat, operator = (authority.issue(dns=[], uris=[uri]) for uri in (CHAT, OPERATOR))
    stranger = authority.issue(dns=["chat"])

    assert await codes_of(edge, authority, chat) == [ok, denied]
    assert await codes_of(edge, authority, operator) == [denied, ok]
    assert await codes_of(edge, authority, stranger) == [denied, denied]
