"""An Ollama that does not exist, behind the client's two methods. A seed decides how it fails."""

import asyncio
import hashlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Self

from eudai_server.core.errors import Reason, ServiceError
from eudai_server.ollama.transport.client import BODY_BYTES_MAX, RefusedError
from eudai_server.ollama.wire.errors import error_from_response
from eudai_server.ollama.wire.requests import Request
from scripted_ollama import done, line, numbered
from simulation.clock import Violation

MODELS = ("one:latest", "two:latest")
FAULTS = (
    "cut",
    "end early",
    "stall",
    "garbage",
    "error line",
    "status 500",
    "status 503",
    "silence",
    "slow",
    "late refusal",
)
FACTS = ("/api/tags", "/api/ps", "/api/version", "/api/status", "/api/show")
CANARY = "."


class World:
    """A simulated Ollama: what it does, and what it was asked to do."""

    def __init__(self, rng: random.Random, max_running: int) -> None:
        self.rng = rng
        self.max_running = max_running
        self.fault_share = rng.choice((0.0, 0.05, 0.3))
        self.up = True
        # What hangs: nothing, the runner, or the whole Ollama.
        self.frozen = ""
        self._thawed = asyncio.Event()
        self._thawed.set()
        # When it last stopped or started.
        self.changed_s = float("-inf")
        self.resident: set[str] = set()
        self.open: set[Answer] = set()
        self.generating: Counter[str] = Counter()
        self.loads = 0

    # What the server calls, in place of the HTTP client.
    async def open_answer(self, route: str, body: dict[str, object], model: str) -> "Answer":
        """Return an answer, or raise a failure."""
        await asyncio.sleep(self.rng.uniform(0.0005, 0.01))
        if not self.up:
            raise RefusedError("simulated")
        if route in FACTS:
            await self.hang("whole")
            return self._answer([(0.001, self._facts(route, model)), (0.0, b"")])
        await self.hang("runner", "whole")
        prompt = body.get("prompt")
        if prompt is None:
            return await self._load(model)
        fault = self.rng.choice(FAULTS) if self.rng.random() < self.fault_share else ""
        if prompt == CANARY:
            return self._answer(self._generation(2, fault if fault != "stall" else ""))
        async with self._counted(model):
            await self._first_byte(model, fault)
        return self._answer(self._generation(int(str(prompt)), fault), model)

    @asynccontextmanager
    async def _counted(self, model: str) -> AsyncIterator[None]:
        self.generating[model] += 1
        if self.generating[model] > self.max_running:
            raise Violation(
                f"{self.generating[model]} generations of {model} were sent to Ollama, "
                f"which runs {self.max_running}"
            )
        try:
            yield
        finally:
            self.generating[model] -= 1

    async def _first_byte(self, model: str, fault: str) -> None:
        if model not in self.resident:
            await asyncio.sleep(self.rng.uniform(1, 4))
            self.resident.add(model)
        await asyncio.sleep(self.rng.choice((0.02, 0.3, 3.0)))
        match fault:
            case "status 500":
                raise error_from_response(
                    500, b'{"error":"llama runner process has terminated"}', model
                )
            case "status 503":
                raise error_from_response(
                    503,
                    b'{"error":"server busy, please try again.  '
                    b'maximum pending requests exceeded"}',
                    model,
                )
            case "silence":
                await asyncio.get_running_loop().create_future()
            case "late refusal":
                raise ServiceError(Reason.BACKEND_STREAM_INTERRUPTED, "it broke")

    async def _load(self, model: str) -> "Answer":
        self.loads += 1
        if self.rng.random() < self.fault_share:
            await asyncio.sleep(self.rng.uniform(0, 5))
            raise error_from_response(
                500, b'{"error":"model requires more system memory than is available"}', model
            )
        await asyncio.sleep(self.rng.uniform(0.5, 5))
        self.resident.add(model)
        return self._answer([(0.0, line(model=model, done=True, done_reason="load")), (0.0, b"")])

    def _generation(self, words: int, fault: str) -> list[tuple[float, bytes | str]]:
        rng = self.rng
        steps: list[tuple[float, bytes | str]] = []
        at = rng.randrange(words + 1)
        for number, piece in enumerate(numbered(words)):
            if number == at and fault in ("cut", "stall", "garbage", "error line", "end early"):
                break
            steps.append(
                (
                    rng.uniform(0.001, 0.4) * (20 if fault == "slow" else 1),
                    line(response=piece, done=False),
                )
            )
        match fault:
            case "cut" | "stall":
                steps.append((0.1, fault))
            case "garbage":
                steps.append((0.1, b'{"response": \xff\n'))
            case "error line":
                steps.append((0.1, line(error="an error was encountered while running the model")))
            case "end early":
                pass
            case _:
                steps.append((0.01, done(output=words)))
        return [*_recut(steps, rng), (0.0, b"")]

    def _facts(self, route: str, model: str) -> bytes:
        weights = hashlib.sha256(model.encode()).hexdigest()
        return json.dumps(
            {
                "/api/version": {"version": "0.32.15"},
                "/api/status": {"cloud": {"disabled": True, "source": "env"}},
                "/api/show": {"modelfile": f"FROM /models/blobs/sha256-{weights}\n"},
                "/api/tags": {"models": [{"name": name, "digest": name} for name in MODELS]},
                "/api/ps": {
                    "models": [
                        {"name": name, "digest": name, "context_length": 4096}
                        for name in sorted(self.resident)
                    ]
                },
            }[route]
        ).encode()

    def _answer(self, steps: list[tuple[float, bytes | str]], model: str = "") -> "Answer":
        answer = Answer(self, steps, model)
        self.open.add(answer)
        if model:
            self.generating[model] += 1
        return answer

    # ---- faults

    async def hang(self, *parts: str) -> None:
        """Wait while one of these hangs."""
        while self.frozen in parts:
            await self._thawed.wait()

    def freeze(self, part: str) -> None:
        """Let this part hang; "" lets everything continue."""
        self.frozen = part
        self.changed_s = asyncio.get_running_loop().time()
        (self._thawed.clear if part else self._thawed.set)()

    def go(self, *, up: bool) -> None:
        """Go down or come up; running requests break."""
        self.up = up
        self.changed_s = asyncio.get_running_loop().time()
        if not up:
            self.resident.clear()
            for answer in self.open:
                answer.break_off()


class Answer:
    """An answer that plays its steps."""

    def __init__(self, world: World, steps: list[tuple[float, bytes | str]], model: str) -> None:
        self._world = world
        self._steps = iter(steps)
        self._model = model
        self._broken = asyncio.Event()

    def break_off(self) -> None:
        """Break the connection."""
        self._broken.set()

    async def read(self, timeout_s: float | None = None) -> bytes:
        """As the client's."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._next()
        except TimeoutError:
            raise ServiceError(Reason.BACKEND_STALLED, "Ollama sent nothing") from None

    async def _next(self) -> bytes:
        delay_s, data = next(self._steps, (0.0, b""))
        if self._model:
            await self._world.hang("runner", "whole")
        try:
            async with asyncio.timeout(None if data == "stall" else delay_s):
                await self._broken.wait()
        except TimeoutError:
            if isinstance(data, bytes):
                return data
        raise ServiceError(Reason.BACKEND_STREAM_INTERRUPTED, "the connection to Ollama broke")

    async def gather(self, _limit_s: float) -> None:
        """Return at once, as if the buffer were full."""

    async def close(self) -> None:
        """Once."""
        if self in self._world.open:
            self._world.open.discard(self)
            if self._model:
                self._world.generating[self._model] -= 1

    async def __aenter__(self) -> Self:
        """As the client's."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """As the client's."""
        await self.close()


class WorldClient:
    """`ollama.client.Client`, with a world in place of the network."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def open(
        self, request: Request, *, vital: bool = False, timeout_s: float | None = None
    ) -> Answer:
        """As the client's."""
        del vital
        body = json.loads(request.body) if isinstance(request.body, bytes) else {}
        try:
            async with asyncio.timeout(timeout_s):
                return await self._world.open_answer(request.route, body, request.model)
        except TimeoutError:
            raise ServiceError(Reason.BACKEND_STALLED, "Ollama sent nothing") from None

    async def fetch(
        self, request: Request, *, vital: bool = False, bytes_max: int = BODY_BYTES_MAX
    ) -> bytes:
        """As the client's."""
        del bytes_max
        whole = b""
        async with await self.open(request, vital=vital) as answer:
            while data := await answer.read():
                whole += data
        return whole


def _recut(
    steps: list[tuple[float, bytes | str]], rng: random.Random
) -> Iterator[tuple[float, bytes | str]]:
    """Cut the same bytes at other places: lines arrive in halves, or several at once."""
    held = b""
    for delay_s, data in steps:
        if isinstance(data, str):
            if held:
                yield 0.0, held
                held = b""
            yield delay_s, data
            continue
        held += data
        at = rng.choice((0, len(held), rng.randrange(len(held))))
        if at:
            yield delay_s, held[:at]
            held = held[at:]
    if held:
        yield 0.0, held
