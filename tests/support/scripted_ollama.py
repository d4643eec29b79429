"""A TCP server that plays Ollama's bytes: the only double in the suite.

tests/system/test_faithful.py compares it with the real Ollama. A script is a list of steps for one
answer: bytes are sent, a number is a pause in seconds, an Event is waited for, RESET breaks the
connection, and the end of the list closes it.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from processes import free_port

RESET = object()
Step = bytes | float | asyncio.Event | object
Script = Sequence[Step]
Answer = Script | Callable[["Exchange"], Script]

NDJSON = b"Content-Type: application/x-ndjson\r\n"
HEADERS_STREAM = b"HTTP/1.1 200 OK\r\n" + NDJSON + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
JSON = "application/json; charset=utf-8"
STREAM_LIMIT = 64 << 20


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def line(**fields: Any) -> bytes:
    """One NDJSON line."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def done(reason: str = "stop", prompt: int = 3, output: int = 2) -> bytes:
    """The last line of a generation."""
    return line(
        response="",
        done=True,
        done_reason=reason,
        prompt_eval_count=prompt,
        eval_count=output,
        total_duration=9_000_000,
        load_duration=1_000_000,
        prompt_eval_duration=2_000_000,
        eval_duration=6_000_000,
    )


X = chunk(line(response="x", done=False))
# An answer that lasts longer than any test.
ENDLESS: Script = [HEADERS_STREAM, *[step for _ in range(10_000) for step in (X, 0.002)], END]


def numbered(count: int) -> list[str]:
    """The pieces of an answer in which every piece is different."""
    return [f"{number} " for number in range(count)]


def stream(*lines: bytes) -> Script:
    """A complete streamed answer, with a chunk for each line, as Ollama flushes it."""
    return [HEADERS_STREAM, *(chunk(data) for data in lines), END]


def words(*texts: str, reason: str = "stop") -> Script:
    """A complete generation of these pieces."""
    pieces = (line(response=text, done=False) for text in texts)
    return stream(*pieces, done(reason, output=len(texts)))


def reply(status: int, body: object, content_type: str = JSON) -> Script:
    """A complete answer that is not streamed."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}"
    return [head.encode() + b"\r\n\r\n" + data]


def error(status: int, message: str) -> Script:
    """An error answer in Ollama's format."""
    return reply(status, {"error": message})


@dataclass(eq=False)
class Exchange:
    """One request, and when its connection ended."""

    route: str
    body: dict[str, Any]
    headers: dict[str, str]
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    closed_s: float = 0.0

    @property
    def model(self) -> str:
        """The model's name, without the suffix for a local model."""
        return str(self.body.get("model", "")).removesuffix(":local")


class ScriptedOllama:
    """Has two models; answers each route with its script, or as an idle Ollama would."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, Any]] = {
            "gemma3:270m": {"digest": "14" * 32, "capabilities": ["completion"]},
            "deepseek-r1:1.5b": {"digest": "de" * 32, "capabilities": ["completion", "thinking"]},
        }
        # Name and digest of what was loaded. Ollama keeps listing the old digest after the model
        # was replaced.
        self.resident: set[tuple[str, str]] = set()
        self.scripts: dict[str, Answer] = {}
        self.exchanges: list[Exchange] = []
        self.load_script: Script | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """The value of OLLAMA_BASE_URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """The number of open connections."""
        return len(self._tasks)

    def sent_to(self, route: str) -> list[Exchange]:
        """Requests to a route, except loads."""
        return [one for one in self.exchanges if one.route == route and not _is_load(one)]

    async def until_sent(self, route: str, count: int) -> None:
        """Wait until this many requests to a route have arrived, not counting loads."""
        async with asyncio.timeout(10):
            while len(self.sent_to(route)) < count:
                await asyncio.sleep(0.01)

    async def until_probed(self) -> None:
        """Wait until the server has used what Ollama has now: a second probe follows the first."""
        await self.until_sent("/api/tags", len(self.sent_to("/api/tags")) + 2)

    def hold(self) -> asyncio.Event:
        """Let generations begin, and end only when the event is set."""
        release = asyncio.Event()
        self.scripts["/api/generate"] = [HEADERS_STREAM, X, release, chunk(done()), END]
        return release

    def loads(self) -> list[Exchange]:
        """Requests that only loaded a model."""
        return [one for one in self.exchanges if _is_load(one) and not _keeps_nothing(one)]

    def load(self, model: str) -> None:
        """Put a model into memory."""
        self.resident.add((model, self.models[model]["digest"]))

    def unload(self, model: str) -> None:
        """Remove a model from memory."""
        self.resident.discard((model, self.models[model]["digest"]))

    def unloads(self) -> list[str]:
        """The models that requests unloaded, in order."""
        return [one.model for one in self.exchanges if _is_load(one) and _keeps_nothing(one)]

    async def start(self) -> None:
        """Listen, at the same port after a stop. No outgoing connection can take it meanwhile."""
        self.port = self.port or free_port()
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, limit=STREAM_LIMIT
        )

    async def stop(self) -> None:
        """Drop every connection, and return once a new one is refused."""
        if self._server:
            self._server.close()
        with contextlib.suppress(ConnectionRefusedError):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.transport.abort()
                await asyncio.sleep(0.01)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = None
        try:
            exchange = await _read(reader)
            self.exchanges.append(exchange)
            playing = asyncio.ensure_future(self._play(self._script(exchange), writer))
            leaving = asyncio.ensure_future(reader.read())
            await asyncio.wait((playing, leaving), return_when=asyncio.FIRST_COMPLETED)
            for task in (playing, leaving):
                task.cancel()
            await asyncio.gather(playing, leaving, return_exceptions=True)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            if exchange:
                exchange.closed_s = time.monotonic()
                exchange.closed.set()

    async def _play(self, script: Script, writer: asyncio.StreamWriter) -> None:
        for step in script:
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                case float() | int():
                    await asyncio.sleep(step)
                case asyncio.Event():
                    await step.wait()
                case _:
                    writer.transport.abort()

    def _script(self, exchange: Exchange) -> Script:
        if exchange.route in self.scripts and not _is_load(exchange):
            answer = self.scripts[exchange.route]
            return answer(exchange) if callable(answer) else answer
        facts = {
            "/api/version": {"version": "0.32.15"},
            "/api/status": {"cloud": {"disabled": True, "source": "env"}},
            "/api/tags": {
                "models": [dict(known, name=name) for name, known in self.models.items()]
            },
            "/api/ps": {
                "models": [
                    dict(self.models.get(name, {}), name=name, digest=digest, context_length=4096)
                    for name, digest in sorted(self.resident)
                ]
            },
        }
        if exchange.route in facts:
            return reply(200, facts[exchange.route])
        return self._answer(exchange)

    def _answer(self, exchange: Exchange) -> Script:
        """The answer of an idle Ollama to a request that names a model."""
        asked, model = exchange.body.get("model", ""), exchange.model
        if model not in self.models or (model != asked and "remote_host" in self.models[model]):
            return error(404, f"model '{asked}' not found")
        if exchange.route == "/api/show":
            return reply(200, self._shown(model))
        if _keeps_nothing(exchange):
            self.unload(model)
        if not _is_load(exchange):
            return words("Hello", " world")
        reason = "unload" if _keeps_nothing(exchange) else "load"
        if reason == "load":
            self.load(model)
            if self.load_script:
                return self.load_script
        return reply(200, {"model": model, "response": "", "done": True, "done_reason": reason})

    def _shown(self, model: str) -> dict[str, Any]:
        facts = self.models[model]
        return {
            "modelfile": f"FROM /models/blobs/sha256-{facts.get('weights', facts['digest'])}\n",
            "parameters": facts.get("parameters", ""),
            "capabilities": facts["capabilities"],
            "model_info": {},
        }


def _is_load(exchange: Exchange) -> bool:
    """Whether a request has no prompt: a load, or an unload if `keep_alive` is 0."""
    return exchange.route == "/api/generate" and "prompt" not in exchange.body


def _keeps_nothing(exchange: Exchange) -> bool:
    return bool(exchange.body.get("keep_alive") == 0)


async def _read(reader: asyncio.StreamReader) -> Exchange:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    parted = (text.partition(": ") for text in head[1:] if text)
    headers = {name.lower(): value for name, _, value in parted}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    route = head[0].split()[1]
    has_json = body and not route.startswith("/api/blobs/")
    return Exchange(route, json.loads(body) if has_json else {}, headers)
