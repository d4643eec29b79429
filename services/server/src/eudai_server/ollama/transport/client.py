"""An HTTP client for Ollama. The only module that knows the HTTP library; converts its errors."""

import errno
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from eudai_server import __version__
from eudai_server.core.errors import (
    NoConnectionLeftError,
    Reason,
    ServiceError,
    UnreachableError,
)
from eudai_server.ollama.wire.errors import error_from_response
from eudai_server.ollama.wire.requests import Request

CONNECT_TIMEOUT_S = 2.0
# The limit of concurrent connections. Vital requests, which are few, ignore it.
CONNECTIONS_MAX = 512
# Errors of the operating system that mean that this machine, not Ollama, lacks a resource.
LOCAL_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
# The probe has checked again by then.
UNREACHABLE_RETRY_AFTER_S = 1.0
# Ollama's error bodies are one line; a longer body is not Ollama's.
ERROR_BODY_BYTES_MAX = 64 << 10
# If a caller does not read, twice this is buffered here; the rest waits in Ollama.
READ_BUFFER_BYTES = 16 << 10
PIECE_BYTES_MAX = 1 << 20
# The /api/tags body of a thousand models has half a megabyte.
BODY_BYTES_MAX = 64 << 20

# The session checks certificates by itself. By default, httpx would load all certificates of the
# system for a context of its own, which takes 30 ms and is never used.
UNUSED_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_BROKEN = (httpx.HTTPError, httpx.StreamError, aiohttp.ClientError, OSError)
# The transport raises the same httpx error for a refused connection and for one that broke after
# the request was sent. Only the latter may have run; the error's cause tells them apart.
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class RefusedError(UnreachableError):
    """Nothing listens at Ollama's address."""

    def __init__(self) -> None:
        """Nothing was sent."""
        super().__init__(UNREACHABLE_RETRY_AFTER_S)


class Answer:
    """An answer that is being read. Always close it: closing it early stops the model."""

    def __init__(self, response: httpx.Response, on_closed: Callable[[], None]) -> None:
        """Created by `Client.open`. `on_closed` is called when it is closed."""
        self._response = response
        self._chunks = response.aiter_raw()
        self._on_closed: Callable[[], None] | None = on_closed

    async def read(self) -> bytes:
        """All bytes that have arrived since the last read; empty at the end.

        Raises ServiceError if the connection broke.
        """
        try:
            return await anext(self._chunks, b"")
        except _BROKEN as error:
            raise ServiceError(
                Reason.BACKEND_STREAM_INTERRUPTED,
                "the connection to Ollama broke before the answer was complete; the output so far "
                "is incomplete",
            ) from error

    async def read_all(self, bytes_max: int) -> bytes:
        """The remaining bytes, cut after `bytes_max`."""
        body = bytearray()
        while len(body) < bytes_max and (chunk := await self.read()):
            body += chunk
        return bytes(body[:bytes_max])

    async def close(self) -> None:
        """Close the connection, unless the answer was read completely."""
        on_closed, self._on_closed = self._on_closed, None
        try:
            with suppress(*_BROKEN):  # then it is closed already
                await self._response.aclose()
        finally:
            if on_closed:
                on_closed()

    async def __aenter__(self) -> Self:
        """Close the answer at the end of the block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the answer, whatever happened in the block."""
        await self.close()


class Client:
    """An HTTP client of one Ollama. Limits only the time to connect; callers limit the answers.

    Every call has its own connection. Ollama may restart at any time, and a reused connection would
    then fail the next call, whose generation could not be repeated safely.
    """

    def __init__(self, base_url: str) -> None:
        """`base_url` is OLLAMA_BASE_URL.

        Uses no proxy, cookie, redirect or credential of the environment.
        """
        self._http = httpx.AsyncClient(
            base_url=base_url,
            transport=AiohttpTransport(verify=UNUSED_TLS, client=_session),
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            trust_env=False,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity", "User-Agent": f"eudai/{__version__}"},
        )
        self._open = 0

    async def open(self, request: Request, *, vital: bool = False) -> Answer:
        """Send a request; returns its answer when Ollama has sent the headers.

        `vital` requests ignore the limit of connections: the server needs them to check Ollama's
        state and to recover it. Raises UnreachableError or NoConnectionLeftError if nothing was
        sent, and a ServiceError for any unsuccessful status. A RefusedError says that Ollama is
        down; any other UnreachableError may be this machine's fault.
        """
        if self._open >= CONNECTIONS_MAX and not vital:
            raise NoConnectionLeftError
        body = request.body
        content = _in_pieces(body) if isinstance(body, bytes) else body
        self._open += 1
        try:
            response = await self._send(
                self._http.build_request(request.method, request.route, content=content)
            )
        except BaseException:
            self._close_one()
            raise
        answer = Answer(response, self._close_one)
        if response.is_success:
            return answer
        async with answer:
            text = await answer.read_all(ERROR_BODY_BYTES_MAX)
        raise error_from_response(response.status_code, text, request.model, request.route)

    async def fetch(
        self, request: Request, *, vital: bool = False, bytes_max: int = BODY_BYTES_MAX
    ) -> bytes:
        """Send a request; returns the whole answer.

        Raises the errors of `open`, and BACKEND_FAILURE if the answer is longer than `bytes_max`.
        """
        async with await self.open(request, vital=vital) as answer:
            whole = await answer.read_all(bytes_max + 1)
        if len(whole) > bytes_max:
            raise ServiceError(
                Reason.BACKEND_FAILURE,
                f"Ollama's answer at {request.route} is longer than {bytes_max} bytes",
            )
        return whole

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._http.send(request, stream=True)
        except _BROKEN as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in LOCAL_ERRNOS:
                raise NoConnectionLeftError from error
            if isinstance(cause, _NEVER_SENT):
                if isinstance(cause, aiohttp.ConnectionTimeoutError):
                    raise UnreachableError(UNREACHABLE_RETRY_AFTER_S) from error
                raise RefusedError from error
            raise ServiceError(
                Reason.BACKEND_STREAM_INTERRUPTED,
                "the connection to Ollama broke before Ollama answered",
            ) from error

    def _close_one(self) -> None:
        self._open -= 1


def _in_pieces(body: bytes) -> bytes | AsyncIterable[bytes]:
    """Split a long body, because writing it as a whole would block the event loop."""
    if len(body) <= PIECE_BYTES_MAX:
        return body

    async def pieces() -> AsyncGenerator[bytes, None]:
        for begin in range(0, len(body), PIECE_BYTES_MAX):
            yield body[begin : begin + PIECE_BYTES_MAX]

    return pieces()


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        read_bufsize=READ_BUFFER_BYTES,
    )
