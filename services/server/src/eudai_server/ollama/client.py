"""A route and a body go in, an answer's bytes come out. The only place that knows the HTTP library; its errors become ours."""

import errno
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from eudai_server import __version__
from eudai_server.errors import (
    NoConnectionLeftError,
    Reason,
    ServiceError,
    UnreachableError,
)
from eudai_server.ollama.failure import error_from_response

CONNECT_TIMEOUT_S = 2.0
# Connections to Ollama at once. Vital ones, which are few, may go past this limit.
CONNECTIONS_MAX = 512
# What the operating system says where this process or machine, not Ollama, lacks something.
LOCAL_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
# By then the probe has looked again.
UNREACHABLE_RETRY_AFTER_S = 1.0
# Ollama's error bodies are a line; what is longer is none of Ollama's.
ERROR_BODY_BYTES_MAX = 64 << 10
# Of an answer whose caller does not read: twice this is held here, the rest waits at Ollama.
READ_BUFFER_BYTES = 16 << 10
PIECE_BYTES_MAX = 1 << 20
# /api/tags of a thousand models is half a megabyte.
BODY_BYTES_MAX = 64 << 20

_BROKEN = (httpx.HTTPError, httpx.StreamError, aiohttp.ClientError, OSError)
# The transport gives one httpx error for a refused connection and for one that broke after the request was sent, and
# only the latter may have run: its cause tells.
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class Answer:
    """One answer that is being read. Close it whatever happens: closing early is what stops the model."""

    def __init__(self, response: httpx.Response, on_closed: Callable[[], None]) -> None:
        """Of `Client.open`. `on_closed` is called once it is closed."""
        self._response = response
        self._chunks = response.aiter_raw()
        self._on_closed: Callable[[], None] | None = on_closed

    async def read(self) -> bytes:
        """What has arrived since the last read, in one piece; empty at the end. Raises ServiceError if the connection broke."""
        try:
            return await anext(self._chunks, b"")
        except _BROKEN as error:
            raise ServiceError(
                Reason.BACKEND_STREAM_INTERRUPTED,
                "the connection to Ollama broke before the answer was complete; the output so far "
                "is incomplete",
            ) from error

    async def read_all(self, bytes_max: int) -> bytes:
        """The rest, cut after `bytes_max`."""
        body = bytearray()
        while len(body) < bytes_max and (chunk := await self.read()):
            body += chunk
        return bytes(body[:bytes_max])

    async def close(self) -> None:
        """Close the connection, unless the answer was read to its end."""
        on_closed, self._on_closed = self._on_closed, None
        try:
            with suppress(*_BROKEN):  # it is closed then, which is all that was asked for
                await self._response.aclose()
        finally:
            if on_closed:
                on_closed()

    async def __aenter__(self) -> Self:
        """Close it at the end of the block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Whatever happened in it."""
        await self.close()


class Client:
    """Speaks HTTP to one Ollama. Sets no time limit but the one to connect: how long an answer may take, its caller knows.

    Every call has its own connection. Ollama may restart at any time, and a kept connection would then fail the next
    caller, whose generation could not be repeated safely.
    """

    def __init__(self, base_url: str) -> None:
        """`base_url` as in OLLAMA_BASE_URL. No proxy, cookie, redirect or credential of the environment is ever used."""
        self._http = httpx.AsyncClient(
            base_url=base_url,
            transport=AiohttpTransport(client=_session),
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            trust_env=False,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity", "User-Agent": f"eudai/{__version__}"},
        )
        self._open = 0
        # Called whenever a connection is refused, whoever wanted it.
        self.on_refused: Callable[[], None] = _ignore
        # The version of this Ollama, empty while it is not known. For what its callers are told.
        self.ollama_version: Callable[[], str] = str

    async def open(
        self,
        method: str,
        route: str,
        body: bytes | AsyncIterable[bytes] | None = None,
        *,
        model: str = "",
        vital: bool = False,
    ) -> Answer:
        """Send a request and return its answer once Ollama has begun it.

        `vital` requests are made whatever else is under way: without them the server would not know
        how Ollama is, and could not cure it. Raises UnreachableError or NoConnectionLeftError where
        nothing was sent, and the ServiceError that any status but success means.
        """
        if self._open >= CONNECTIONS_MAX and not vital:
            raise NoConnectionLeftError
        content = _in_pieces(body) if isinstance(body, bytes) else body
        self._open += 1
        try:
            response = await self._send(self._http.build_request(method, route, content=content))
        except BaseException:
            self._close_one()
            raise
        answer = Answer(response, self._close_one)
        if response.is_success:
            return answer
        async with answer:
            text = await answer.read_all(ERROR_BODY_BYTES_MAX)
        failure = error_from_response(response.status_code, text, model, route)
        if failure.reason is Reason.BACKEND_UNSUPPORTED:
            failure.metadata["ollama_version"] = self.ollama_version()
        raise failure

    async def fetch(
        self,
        method: str,
        route: str,
        body: bytes | AsyncIterable[bytes] | None = None,
        *,
        model: str = "",
        vital: bool = False,
        bytes_max: int = BODY_BYTES_MAX,
    ) -> bytes:
        """The whole answer. Raises as `open` does, and BACKEND_FAILURE if it is longer than `bytes_max`."""
        async with await self.open(method, route, body, model=model, vital=vital) as answer:
            whole = await answer.read_all(bytes_max + 1)
        if len(whole) > bytes_max:
            raise ServiceError(
                Reason.BACKEND_FAILURE,
                f"Ollama's answer at {route} is longer than {bytes_max} bytes",
            )
        return whole

    async def close(self) -> None:
        """Close what is open."""
        await self._http.aclose()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._http.send(request, stream=True)
        except _BROKEN as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in LOCAL_ERRNOS:
                raise NoConnectionLeftError from error
            if isinstance(cause, _NEVER_SENT):
                # A connection that takes too long may be this machine's fault; the probe will tell.
                if not isinstance(cause, aiohttp.ConnectionTimeoutError):
                    self.on_refused()
                raise UnreachableError(UNREACHABLE_RETRY_AFTER_S) from error
            raise ServiceError(
                Reason.BACKEND_STREAM_INTERRUPTED,
                "the connection to Ollama broke before Ollama answered",
            ) from error

    def _close_one(self) -> None:
        self._open -= 1


def _in_pieces(body: bytes) -> bytes | AsyncIterable[bytes]:
    """A long body in pieces: written as a whole, it would hold the event loop."""
    if len(body) <= PIECE_BYTES_MAX:
        return body

    async def pieces() -> AsyncGenerator[bytes, None]:
        for begin in range(0, len(body), PIECE_BYTES_MAX):
            yield body[begin : begin + PIECE_BYTES_MAX]

    return pieces()


def _ignore() -> None:
    """Nobody wants to know."""


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        read_bufsize=READ_BUFFER_BYTES,
    )
