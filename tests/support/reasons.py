"""How to cause each ErrorReason: a request, and a server that refuses it.

Not in the table: UNAUTHENTICATED, which grpcurl already gets from reflection
(behaviour/test_access); QUOTA_EXCEEDED, which needs two callers (behaviour/test_fairness);
INTERNAL, which needs a defect (behaviour/test_broken_backend).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from eudai.v1 import model_service_pb2, model_service_pb2_grpc
from eudai_server.core.access import Scope
from processes import free_port
from scripted_ollama import (
    END,
    HEADERS_STREAM,
    Exchange,
    Script,
    ScriptedOllama,
    chunk,
    done,
    error,
    line,
    reply,
    stream,
)
from serving import Server, collect, config_for, serving

GENERATE = "GenerationService/Generate"
ZERO = "sha256:" + "0" * 64
GEMMA = {"model": "gemma3:270m", "prompt": "hi"}
X = line(response="x", done=False)
MEASURED = "measure this"


@dataclass(frozen=True)
class Case:
    """A request, and the server that it is sent to.

    The server is in front of the real Ollama or, with a script, of the scripted one.
    """

    method: str
    request: dict[str, Any]
    script: Script | Callable[[Exchange], Script] | None = None
    route: str = "/api/generate"
    config: dict[str, Any] = field(default_factory=dict)
    before: Callable[[Server], Any] | None = None
    meanwhile: Callable[[Server], Any] | None = None
    deadline_s: float = 30.0


def a_second_or_a_minute(exchange: Exchange) -> Script:
    """An answer that takes a second if it is measured, and otherwise longer than the test."""
    answer_s = 1.0 if exchange.body.get("prompt") == MEASURED else 60.0
    return [HEADERS_STREAM, chunk(X), answer_s, chunk(done()), END]


async def crowd(server: Server) -> list["asyncio.Task[Any]"]:
    """Let the server measure how long an answer takes, and then keep it busy with two of them."""
    await collect(server, prompt=MEASURED)
    tasks = [asyncio.create_task(collect(server, prompt="hi")) for _ in range(2)]
    while server.app.parts.admission.queued != 1:
        await asyncio.sleep(0.01)
    return tasks


async def drain(server: Server) -> None:
    """Shut the server down once the call runs."""
    await server.until_admitted(running=1, queued=0)
    await server.app.drain()


async def cancel_pull(server: Server) -> None:
    """Cancel the pull once it has begun."""
    stub: Any = model_service_pb2_grpc.ModelServiceStub(server.channel)
    while not (await stub.ListPulls(model_service_pb2.ListPullsRequest())).pulls:
        await asyncio.sleep(0.01)
    await stub.CancelPull(model_service_pb2.CancelPullRequest(model="gemma3:270m"))


ADMIN = {"admin": True, "registries": ("registry.ollama.ai", "http://localhost:5999")}
CASES = {
    "INVALID_REQUEST": Case(GENERATE, {"conversation": {}, "sampling": {"temperature": 9}}),
    "CONTEXT_LENGTH_EXCEEDED": Case(GENERATE, {"model": "gemma3:270m", "prompt": "word " * 6000}),
    "MODEL_NOT_FOUND": Case(GENERATE, {"model": "nope", "prompt": "hi"}),
    "CAPABILITY_UNSUPPORTED": Case(GENERATE, {"model": "all-minilm", "prompt": "hi"}),
    "DIGEST_MISMATCH": Case(GENERATE, {**GEMMA, "expectedDigest": ZERO}),
    "LOAD_OPTIONS_FORBIDDEN": Case(
        GENERATE, {**GEMMA, "load": {"contextLength": 8192}}, config={"load_options": False}
    ),
    "QUEUE_FULL": Case(
        GENERATE,
        GEMMA,
        error(503, "server busy, please try again.  maximum pending requests exceeded"),
    ),
    "INSUFFICIENT_MEMORY": Case(
        GENERATE,
        GEMMA,
        error(500, "model requires more system memory (9.9 GiB) than is available (1.0 GiB)"),
    ),
    "BACKEND_UNREACHABLE": Case(GENERATE, GEMMA, config={"ollama_base_url": "closed"}),
    "BACKEND_STREAM_INTERRUPTED": Case(GENERATE, GEMMA, stream(X)),
    "BACKEND_FAILURE": Case(
        GENERATE, GEMMA, stream(X, line(error="llama-server process has terminated: exit status 1"))
    ),
    "BACKEND_STALLED": Case(
        GENERATE, GEMMA, [HEADERS_STREAM, chunk(X), 60.0], config={"event_timeout_s": 0.5}
    ),
    "DRAINING": Case(
        GENERATE,
        GEMMA,
        [HEADERS_STREAM, chunk(X), 60.0],
        config={"drain_grace_s": 0.2},
        meanwhile=drain,
    ),
    "DEADLINE_TOO_SHORT": Case(
        GENERATE,
        GEMMA,
        a_second_or_a_minute,
        config={"max_running": 1},
        before=crowd,
        deadline_s=0.8,
    ),
    "SCOPE_MISSING": Case(GENERATE, GEMMA, config={"anonymous": frozenset({Scope.SERVER_READ})}),
    "ADMIN_DISABLED": Case("ModelService/DeleteModel", {"model": "gemma3:270m"}),
    "MODEL_FORBIDDEN": Case("ModelService/PullModel", {"model": "evil.example/a/b"}, config=ADMIN),
    "BACKEND_UNSUPPORTED": Case(GENERATE, GEMMA, reply(404, "404 page not found", "text/plain")),
    "REGISTRY_FAILURE": Case(
        "ModelService/PullModel", {"model": "localhost:5999/a/b"}, config=ADMIN
    ),
    "CLOUD_DISABLED": Case(GENERATE, {"model": "gpt-oss:120b-cloud", "prompt": "hi"}),
    "REGISTRY_DENIED": Case(
        "ModelService/PullModel",
        {"model": "a/b"},
        stream(line(error="unauthorized: access denied")),
        "/api/pull",
        ADMIN,
    ),
    "BLOB_NOT_FOUND": Case(
        "ModelService/CreateModel", {"model": "mine", "files": {"a.gguf": ZERO}}, config=ADMIN
    ),
    # test_parsers.py and test_scripted_model.py cause these with the real Ollama.
    "TOOL_CALL_MALFORMED": Case(GENERATE, GEMMA, stream(X, line(error="empty function name"))),
    "REPETITION_STOPPED": Case(GENERATE, GEMMA, stream(*[X] * 31)),
    "PULL_NOT_FOUND": Case("ModelService/CancelPull", {"model": "gemma3:270m"}, config=ADMIN),
    "PULL_CANCELLED": Case(
        "ModelService/PullModel",
        {"model": "gemma3:270m"},
        [HEADERS_STREAM, chunk(line(status="pulling manifest")), 60.0],
        "/api/pull",
        ADMIN,
        meanwhile=cancel_pull,
    ),
}


@asynccontextmanager
async def refusing(case: Case, real_url: str, ollama: ScriptedOllama) -> AsyncIterator[Server]:
    """A server that refuses the request of a case."""
    url = real_url
    if case.script:
        ollama.scripts[case.route] = case.script
        url = ollama.url
    changes = dict(case.config)
    is_reachable = changes.pop("ollama_base_url", "") != "closed"
    if not is_reachable:
        url = f"http://127.0.0.1:{free_port()}"
    async with serving(config_for(url, **changes)) as server:
        await server.until("liveness", "SERVING")
        if is_reachable:
            await server.until("", "SERVING")
        others = await case.before(server) if case.before else []
        meanwhile = asyncio.create_task(case.meanwhile(server)) if case.meanwhile else None
        yield server
        if meanwhile:
            await meanwhile
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
