"""Models come only from registries that the operator allows, and get no name of another one."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from eudai.v1 import model_service_pb2 as pb, model_service_pb2_grpc as rpc
from refusal import drained, refused
from scripted_ollama import ScriptedOllama, line, reply, stream
from serving import config_for, serving

HERE = "localhost:5005/a/here:latest"
SUCCESS = stream(line(status="success"))


@pytest.fixture
async def admin(ollama: ScriptedOllama) -> AsyncIterator[Any]:
    """A stub of ModelService. Its Ollama has two models, of which one is of an allowed registry."""
    ollama.models[HERE] = {"digest": "0" * 64}
    ollama.scripts |= dict.fromkeys(("/api/pull", "/api/push", "/api/create"), SUCCESS)
    ollama.scripts |= {"/api/show": reply(200, {"details": {}}), "/api/copy": reply(200, "")}
    config = config_for(ollama.url, admin=True, registries=("http://LocalHost:5005", "hf.co"))
    async with serving(config) as server:
        await server.until("", "SERVING")
        yield rpc.ModelServiceStub(server.channel)


# The RPC, its request, and the forbidden model.
FORBIDDEN: dict[str, tuple[str, Any, str]] = {
    "a pull": ("PullModel", pb.PullModelRequest(model="evil.test/a/b"), "evil.test/a/b:latest"),
    "a pull of the default": ("PullModel", pb.PullModelRequest(model="gemma3"), "gemma3:latest"),
    "a pull from a host that looks like a namespace": (
        "PullModel",
        pb.PullModelRequest(model="library/a/b"),
        "library/a/b:latest",
    ),
    "a pull from another port": (
        "PullModel",
        pb.PullModelRequest(model="localhost:5006/a/b:x"),
        "localhost:5006/a/b:x",
    ),
    "a pull with a source": (
        "PullModel",
        pb.PullModelRequest(model="http://evil.test/a/b:x:local"),
        "evil.test/a/b:x",
    ),
    "a push": ("PushModel", pb.PushModelRequest(model="evil.test/a/b:x"), "evil.test/a/b:x"),
    "a base that is here, and that Ollama would pull if it were not": (
        "CreateModel",
        pb.CreateModelRequest(model=HERE, base_model="gemma3:270m"),
        "gemma3:270m",
    ),
    "a name of a created model": (
        "CreateModel",
        pb.CreateModelRequest(model="evil.test/a/b:x", base_model=HERE),
        "evil.test/a/b:x",
    ),
    "a destination of a copy": (
        "CopyModel",
        pb.CopyModelRequest(source=HERE, destination="evil.test/a/b:x"),
        "evil.test/a/b:x",
    ),
}


@pytest.mark.parametrize("case", FORBIDDEN)
async def test_another_registry_is_refused(admin: Any, ollama: ScriptedOllama, case: str) -> None:
    method, request, model = FORBIDDEN[case]
    failure = await refused(getattr(admin, method)(request))

    assert failure.reason == "MODEL_FORBIDDEN"
    assert failure.details["ErrorInfo"].metadata["model"] == model
    assert not any(
        ollama.sent_to(route) for route in ("/api/pull", "/api/push", "/api/create", "/api/copy")
    )


async def test_a_model_of_another_registry_may_be_copied_to_an_allowed_name(
    admin: Any, ollama: ScriptedOllama
) -> None:
    await admin.CopyModel(pb.CopyModelRequest(source="gemma3:270m", destination=HERE))

    assert ollama.sent_to("/api/copy")[0].body == {"source": "gemma3:270m", "destination": HERE}


@pytest.mark.parametrize(
    ("model", "sent", "insecure"),
    [
        ("localhost:5005/a/here", HERE, True),
        ("https://LOCALHOST:5005/a/here", "LOCALHOST:5005/a/here:latest", True),
        (" localhost:5005/a/here:local\n", HERE, True),
        ("http://hf.co/a/b:Q4", "hf.co/a/b:Q4", False),
    ],
)
async def test_the_operator_decides_which_registry_is_insecure(
    admin: Any,
    ollama: ScriptedOllama,
    model: str,
    sent: str,
    insecure: bool,
) -> None:
    ollama.models["hf.co/a/b:Q4"] = {"digest": "1" * 64}
    await drained(admin.PullModel(pb.PullModelRequest(model=model)))

    assert ollama.sent_to("/api/pull")[0].body == {"model": sent, "insecure": insecure}
