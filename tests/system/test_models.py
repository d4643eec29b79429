"""Administration of the real Ollama's models through the service."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from eudai.v1 import (
    generation_service_pb2 as generation,
    model_service_pb2 as pb,
    model_service_pb2_grpc as rpc,
    options_pb2,
)
from google.protobuf.duration_pb2 import Duration
from processes import eudai_server
from refusal import Refusal
from serving import Server, collect, config_for, serving

PIECE_BYTES = 1 << 20
ONE_TOKEN = options_pb2.StopOptions(max_output_tokens=1)


@pytest.fixture
async def admin(real_url: str) -> AsyncIterator[tuple[Server, Any]]:
    """A server with administration enabled in front of the real Ollama, and a stub."""
    async with serving(config_for(real_url, admin=True)) as server:
        await server.until("", "SERVING")
        yield server, rpc.ModelServiceStub(server.channel)


async def test_real_models_are_described(admin: tuple[Server, Any]) -> None:
    _, stub = admin
    models = {model.name: model for model in (await stub.ListModels(pb.ListModelsRequest())).models}
    gemma = await stub.GetModel(pb.GetModelRequest(model="gemma3:270m", verbose=True))
    minilm = await stub.GetModel(pb.GetModelRequest(model="all-minilm"))

    assert list(models["all-minilm:latest"].capabilities) == [pb.CAPABILITY_EMBEDDING]
    assert list(models["gemma3:270m"].capabilities) == [pb.CAPABILITY_COMPLETION]
    assert (gemma.model.family, gemma.model.max_context_length, gemma.embedding_length) == (
        "gemma3",
        32768,
        640,
    )
    assert '"gemma3.context_length":32768' in gemma.metadata_json
    assert gemma.model.update_time.seconds > 0
    assert (minilm.model.max_context_length, minilm.metadata_json) == (512, "")


async def test_a_model_is_loaded_and_unloaded(admin: tuple[Server, Any]) -> None:
    _, stub = admin
    for name in ("gemma3:270m", "all-minilm:latest"):
        loaded = await stub.LoadModel(pb.LoadModelRequest(model=name))
        in_memory = [
            model.name
            for model in (await stub.ListModels(pb.ListModelsRequest(loaded_only=True))).models
        ]
        await stub.UnloadModel(pb.UnloadModelRequest(model=name))
        after = (await stub.GetModel(pb.GetModelRequest(model=name))).model

        assert loaded.model.loaded.context_length > 0
        assert name in in_memory
        assert not after.HasField("loaded")


async def test_an_unset_keep_alive_keeps_what_was_set(admin: tuple[Server, Any]) -> None:
    server, stub = admin
    name = "kept-for-an-hour:latest"
    await stub.CopyModel(pb.CopyModelRequest(source="gemma3:270m", destination=name))
    # A different context length, so that no model that is loaded already is used.
    load = options_pb2.LoadOptions(context_length=512)
    hour = options_pb2.LoadOptions(context_length=512, keep_alive=Duration(seconds=3600))
    await stub.LoadModel(pb.LoadModelRequest(model=name, load=hour))
    await collect(server, model=name, prompt="x", load=load, stop=ONE_TOKEN)
    kept = (await stub.GetModel(pb.GetModelRequest(model=name))).model.loaded
    await stub.UnloadModel(pb.UnloadModelRequest(model=name))
    await stub.DeleteModel(pb.DeleteModelRequest(model=name))

    assert kept.expire_time.seconds - time.time() > 1800


async def test_a_copy_answers_and_is_deleted(admin: tuple[Server, Any]) -> None:
    server, stub = admin
    copied = (
        await stub.CopyModel(pb.CopyModelRequest(source="gemma3:270m", destination="eudai-copy"))
    ).model
    request = generation.GenerateRequest(
        model="eudai-copy", prompt="x", stop=options_pb2.StopOptions(max_output_tokens=1)
    )
    events = [event async for event in server.generation.Generate(request, timeout=60)]
    health = await server.health("model/eudai-copy")
    await stub.DeleteModel(pb.DeleteModelRequest(model="eudai-copy"))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await stub.DeleteModel(pb.DeleteModelRequest(model="eudai-copy"))
    await stub.DeleteModel(pb.DeleteModelRequest(model="eudai-copy", allow_missing=True))

    assert copied.name == "eudai-copy:latest"
    assert events[0].started.digest == copied.digest
    assert health == "SERVING"
    assert Refusal(failure.value).reason == "MODEL_NOT_FOUND"


async def test_a_model_is_created_from_an_uploaded_file_in_constant_memory(
    real_url: str, admin: tuple[Server, Any], tmp_path: Path
) -> None:
    _, stub = admin
    # The file of gemma3:270m with one bit of one weight changed, so that Ollama does not have it.
    data = bytearray(
        _gguf((await stub.GetModel(pb.GetModelRequest(model="gemma3:270m"))).modelfile).read_bytes()
    )
    data[-1] ^= 1
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with eudai_server(OLLAMA_BASE_URL=real_url, EUDAI_ADMIN="true") as (address, process):
        async with grpc.aio.insecure_channel(address) as channel:
            stub = rpc.ModelServiceStub(channel)
            idle = psutil.Process(process.pid).memory_info().rss
            peak = asyncio.create_task(_peak(process.pid))
            uploaded = await stub.UploadBlob(_pieces(digest, path))
            request = pb.CreateModelRequest(
                model="eudai-made", files={"model.gguf": digest}, system="Be kind."
            )
            events = [event async for event in stub.CreateModel(request)]
            described = await stub.GetModel(pb.GetModelRequest(model="eudai-made"))
            await stub.DeleteModel(pb.DeleteModelRequest(model="eudai-made"))
            peak.cancel()
            grown = await peak - idle
    print(
        f"uploaded {uploaded.size_bytes} bytes; "
        f"the server grew by {grown >> 20} MiB from {idle >> 20}"
    )

    assert (uploaded.existed, uploaded.size_bytes) == (False, len(data))
    assert events[-1].completed.name == "eudai-made:latest"
    assert described.system == "Be kind."
    assert grown < len(data) // 2


async def _peak(pid: int) -> int:
    """Measure the peak memory of a process until cancelled."""
    process = psutil.Process(pid)
    peak = 0
    try:
        while True:
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        return peak


async def test_the_real_ollama_checks_an_upload_too(
    admin: tuple[Server, Any], tmp_path: Path
) -> None:
    _, stub = admin
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * PIECE_BYTES + 7))
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    blobs = _gguf((await stub.GetModel(pb.GetModelRequest(model="gemma3:270m"))).modelfile).parent
    before = set(blobs.iterdir())
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await stub.UploadBlob(_pieces("sha256:" + "0" * 64, path))
    half = stub.UploadBlob(_pieces(digest, path, pause_s=60))
    await asyncio.sleep(0.3)  # meanwhile the first piece arrives; Ollama does not report it
    half.cancel()
    async with asyncio.timeout(30):
        while set(blobs.iterdir()) != before:
            await asyncio.sleep(0.05)
    first = await stub.UploadBlob(_pieces(digest, path))
    again = await stub.UploadBlob(_pieces(digest, path))

    assert Refusal(failure.value).fields == ["digest"]
    assert (first.existed, first.size_bytes) == (False, 3 * PIECE_BYTES + 7)
    assert again.existed


def _gguf(modelfile: str) -> Path:
    return Path(
        next(line for line in modelfile.splitlines() if line.startswith("FROM /")).removeprefix(
            "FROM "
        )
    )


async def _pieces(
    digest: str, path: Path, pause_s: float = 0.0
) -> AsyncIterator[pb.UploadBlobRequest]:
    with path.open("rb") as file:
        yield pb.UploadBlobRequest(digest=digest, data=file.read(PIECE_BYTES))
        await asyncio.sleep(pause_s)
        while data := file.read(PIECE_BYTES):
            yield pb.UploadBlobRequest(data=data)
