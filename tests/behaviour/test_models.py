"""Lists and descriptions of models, and which calls need the operator's permission."""

from typing import Any

import grpc
import pytest
from eudai.v1 import (
    model_service_pb2 as pb,
    model_service_pb2_grpc as rpc,
    options_pb2,
)
from eudai_server.ollama import store
from google.protobuf.duration_pb2 import Duration
from refusal import refused
from scripted_ollama import (
    Exchange,
    Script,
    ScriptedOllama,
    error,
    reply,
)
from serving import Server


async def test_lists_are_paged_in_order_of_name(admin: Any, ollama: ScriptedOllama) -> None:
    ollama.models |= {f"m{index:02}:latest": {"digest": f"{index:064}"} for index in range(25)}
    names: list[str] = []
    token = ""
    pages = 0
    while (pages == 0 or token) and pages < 9:
        page = await admin.ListModels(pb.ListModelsRequest(page_size=10, page_token=token))
        names += [model.name for model in page.models]
        token = page.next_page_token
        pages += 1

    assert names == sorted(ollama.models)
    assert pages == 3


async def test_a_list_can_be_filtered(admin: Any, ollama: ScriptedOllama) -> None:
    ollama.load("gemma3:270m")
    loaded = (await admin.ListModels(pb.ListModelsRequest(loaded_only=True))).models
    embedding = (
        await admin.ListModels(pb.ListModelsRequest(capabilities=[pb.CAPABILITY_EMBEDDING]))
    ).models

    assert [model.name for model in loaded] == ["gemma3:270m"]
    assert loaded[0].loaded.context_length == 4096
    assert not embedding


async def test_a_model_that_cannot_be_described_is_listed(
    admin: Any, ollama: ScriptedOllama
) -> None:
    described = reply(200, {"capabilities": ["completion", "telepathy"], "model_info": {}})
    ollama.scripts["/api/show"] = lambda exchange: (
        error(500, "cannot read it") if exchange.body["model"] == "gemma3:270m" else described
    )
    models = (await admin.ListModels(pb.ListModelsRequest())).models

    assert {model.name: list(model.capabilities) for model in models} == {
        "deepseek-r1:1.5b": [pb.CAPABILITY_UNSPECIFIED, pb.CAPABILITY_COMPLETION],
        "gemma3:270m": [pb.CAPABILITY_UNSPECIFIED],
    }


@pytest.mark.parametrize("call", ["GetModel", "ListModels"])
async def test_a_description_is_bounded(
    admin: Any, ollama: ScriptedOllama, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SHOW_BYTES_MAX", 1000)
    ollama.scripts["/api/show"] = reply(200, {"template": "x" * 1000})
    if call == "ListModels":
        models = (await admin.ListModels(pb.ListModelsRequest())).models
        assert list(models[0].capabilities) == [pb.CAPABILITY_UNSPECIFIED]
    else:
        failure = await refused(admin.GetModel(pb.GetModelRequest(model="gemma3:270m")))
        assert failure.reason == "BACKEND_FAILURE"
        assert "/api/show" in failure.message


async def test_each_digest_is_described_once(admin: Any, ollama: ScriptedOllama) -> None:
    for _ in range(3):
        await admin.ListModels(pb.ListModelsRequest())

    assert len(ollama.sent_to("/api/show")) == len(ollama.models)


async def test_a_failure_after_the_work_may_not_be_retried(
    admin: Any, ollama: ScriptedOllama
) -> None:
    busy = error(503, "server busy, please try again")

    def copied(_: Exchange) -> Script:
        ollama.scripts["/api/tags"] = busy
        return reply(200, "")

    ollama.scripts["/api/copy"] = copied
    request = pb.CopyModelRequest(source="gemma3:270m", destination="mine")
    failure = await refused(admin.CopyModel(request))

    assert failure.reason == "QUEUE_FULL"
    assert failure.trailers["grpc-retry-pushback-ms"] == "-1"


async def test_an_unload_that_was_sent_may_not_be_retried(
    admin: Any, ollama: ScriptedOllama
) -> None:
    def busy_after_the_unload(_: Exchange) -> Script:
        unloads = [one for one in ollama.exchanges if one.body.get("keep_alive") == 0]
        return error(503, "server busy, please try again") if unloads else reply(200, {})

    ollama.scripts["/api/ps"] = busy_after_the_unload
    failure = await refused(admin.UnloadModel(pb.UnloadModelRequest(model="gemma3:270m")))

    assert failure.trailers["grpc-retry-pushback-ms"] == "-1"


BAD: dict[str, tuple[str, Any, list[str]]] = {
    "a pull of no reference": ("PullModel", pb.PullModelRequest(model="a b"), ["model"]),
    "a copy of nothing": ("CopyModel", pb.CopyModelRequest(), ["source", "destination"]),
    "a deletion of nothing": ("DeleteModel", pb.DeleteModelRequest(), ["model"]),
    "an unload of nothing": ("UnloadModel", pb.UnloadModelRequest(), ["model"]),
    "a model of nothing": ("GetModel", pb.GetModelRequest(), ["model"]),
    "a negative page": ("ListModels", pb.ListModelsRequest(page_size=-1), ["page_size"]),
    "a made-up page": ("ListModels", pb.ListModelsRequest(page_token="!"), ["page_token"]),
    "a load for ever and a day": (
        "LoadModel",
        pb.LoadModelRequest(
            model="m", load=options_pb2.LoadOptions(keep_alive=Duration(seconds=10**11))
        ),
        ["load.keep_alive"],
    ),
    "a load that keeps nothing": (
        "LoadModel",
        pb.LoadModelRequest(model="m", load=options_pb2.LoadOptions(keep_alive=Duration())),
        ["load.keep_alive"],
    ),
    "a creation of nothing": ("CreateModel", pb.CreateModelRequest(), ["model", "base_model"]),
    "a file outside": (
        "CreateModel",
        pb.CreateModelRequest(model="m", files={"../x": "sha256:1"}),
        ["files", "files['../x']"],
    ),
    "a creation that keeps alive": (
        "CreateModel",
        pb.CreateModelRequest(
            model="m", base_model="n", load=options_pb2.LoadOptions(keep_alive=Duration(seconds=1))
        ),
        ["load.keep_alive"],
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_each_violation_names_its_field(admin: Any, case: str) -> None:
    method, request, fields = BAD[case]

    assert (await refused(getattr(admin, method)(request))).fields == fields


async def test_administration_needs_the_operators_permission(
    server: Server, ollama: ScriptedOllama
) -> None:
    stub = rpc.ModelServiceStub(server.channel)
    ollama.scripts["/api/show"] = reply(200, {})
    calls = [
        stub.PullModel(pb.PullModelRequest(model="m")),
        stub.PushModel(pb.PushModelRequest(model="m")),
        stub.CreateModel(pb.CreateModelRequest(model="m")),
        stub.UploadBlob([pb.UploadBlobRequest()]),
        stub.CopyModel(pb.CopyModelRequest()),
        stub.DeleteModel(pb.DeleteModelRequest()),
        stub.LoadModel(pb.LoadModelRequest()),
        stub.UnloadModel(pb.UnloadModelRequest()),
    ]
    refusals = [await refused(call) for call in calls]

    assert {(failure.code, failure.reason) for failure in refusals} == {
        (grpc.StatusCode.PERMISSION_DENIED, "ADMIN_DISABLED")
    }
    assert len((await stub.ListModels(pb.ListModelsRequest())).models) == 2
