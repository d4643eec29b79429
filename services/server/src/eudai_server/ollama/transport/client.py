"""An HTTP client for Ollama, which converts HTTP's errors and statuses to the server's errors."""

import errno
import functools
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable
from types import TracebackType
from typing import Self

import httpx

from eudai_server import __version__
from eudai_server.core.errors import (
    NoConnectionLeftError,
    Reason,
    ServiceError,
    UnreachableError,
)
from eudai_server.ollama.transport.connection import Connection
from eudai_server.ollama.transport.http_transport import HttpTransport
from eudai_server.ollama.wire.errors import error_from_response
from eudai_server.ollama.wire.requests import Request

CONNECT_TIMEOUT_S = 2.0
# The limit of concurrent connections. Vital requests, which are few, ignore it. Together with the
# clients' 1,024 connections it stays below the usual hard limit of 4,096 open files.
CONNECTIONS_MAX = 2048
# Errors of the operating system that mean that this machine, not Ollama, lacks a resource.
LOCAL_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
# The probe has checked again by then.
UNREACHABLE_RETRY_AFTER_S = 1.0
# Ollama's error bodies are one line; a longer body is not Ollama's.
ERROR_BODY_BYTES_MAX = 64 << 10
# The /api/tags body of a thousand models has half a megabyte.
BODY_BYTES_MAX = 64 << 20
# The routes of uploads contain digests, so their number is not limited.
ROUTES_KEPT_MAX = 64


class RefusedError(UnreachableError):
    """Nothing listens at Ollama's address, or it is not to be trusted."""

    def __init__(self, cause: str) -> None:
        """Nothing was sent. `cause` is for the log."""
        super().__init__(UNREACHABLE_RETRY_AFTER_S)
        self.cause = cause


class Answer:
    """An answer that is being read. Always close it: closing it early stops the model."""

    def __init__(self, connection: Connection, on_closed: Callable[[], None]) -> None:
        """Created by `Client.open`. `on_closed` is called when it is closed."""
        self._connection = connection
        self._on_closed: Callable[[], None] | None = on_closed

    async def read(self, timeout_s: float | None = None) -> bytes:
        """All bytes that have arrived since the last read; empty at the end.

        Raises ServiceError BACKEND_STALLED if none arrive within `timeout_s`, and
        BACKEND_STREAM_INTERRUPTED if the connection broke.
        """
        try:
            return await self._connection.read(timeout_s)
        except httpx.ReadTimeout:
            raise _stalled(timeout_s) from None
        except httpx.TransportError as error:
            raise ServiceError(
                Reason.BACKEND_STREAM_INTERRUPTED,
                "the connection to Ollama broke before the answer was complete; the output so far "
                "is incomplete",
            ) from error

    async def gather(self, limit_s: float) -> None:
        """Let more bytes arrive for `limit_s`, so that the next `read` returns them together.

        Returns earlier if the answer is complete, or if much has arrived.
        """
        await self._connection.gather(limit_s)

    async def read_all(self, bytes_max: int) -> bytes:
        """The remaining bytes, cut after `bytes_max`."""
        body = bytearray()
        while len(body) < bytes_max and (chunk := await self.read()):
            body += chunk
        return bytes(body[:bytes_max])

    async def close(self) -> None:
        """Close the connection."""
        on_closed, self._on_closed = self._on_closed, None
        self._connection.close()
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

    def __init__(self, base_url: str, tls: ssl.SSLContext | None = None) -> None:
        """`base_url` is OLLAMA_BASE_URL. `tls` says which certificates are trusted.

        Uses no proxy, cookie, redirect or credential of the environment.
        """
        self._base_url = httpx.URL(base_url)
        self._url_of = functools.lru_cache(ROUTES_KEPT_MAX)(self._join)
        self._transport = HttpTransport(self._base_url, CONNECT_TIMEOUT_S, tls)
        self._headers = httpx.Headers(
            {
                "Host": self._base_url.netloc.decode(),
                "Connection": "close",
                "Accept-Encoding": "identity",
                "User-Agent": f"eudai/{__version__}",
            }
        )
        self._open = 0

    def present(self, token: str) -> None:
        """Present a bearer token from the next request on. It has visible ASCII characters only."""
        self._headers["Authorization"] = f"Bearer {token}"

    async def open(
        self, request: Request, *, vital: bool = False, timeout_s: float | None = None
    ) -> Answer:
        """Send a request; returns its answer when Ollama has sent the headers.

        `vital` requests ignore the limit of connections: the server needs them to check Ollama's
        state and to recover it. Raises UnreachableError or NoConnectionLeftError if nothing was
        sent, and a ServiceError for any unsuccessful status. A RefusedError says that Ollama is
        down; any other UnreachableError may be this machine's fault. Raises BACKEND_STALLED if the
        headers do not arrive within `timeout_s`.
        """
        if self._open >= CONNECTIONS_MAX and not vital:
            raise NoConnectionLeftError
        self._open += 1
        try:
            response = await self._send(request, timeout_s)
        except BaseException:
            self._close_one()
            raise
        assert isinstance(response.stream, Connection)  # noqa: S101 - the transport says so
        answer = Answer(response.stream, self._close_one)
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

    async def _send(self, request: Request, timeout_s: float | None) -> httpx.Response:
        try:
            return await self._transport.handle_async_request(
                httpx.Request(
                    request.method,
                    self._url_of(request.route),
                    headers=self._headers,
                    stream=_body_stream(request.body),
                    extensions={"timeout": {"read": timeout_s}},
                )
            )
        except httpx.ReadTimeout:
            raise _stalled(timeout_s) from None
        except httpx.ConnectTimeout as error:
            raise UnreachableError(UNREACHABLE_RETRY_AFTER_S) from error
        except httpx.ConnectError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in LOCAL_ERRNOS:
                raise NoConnectionLeftError from error
            raise RefusedError(_cause_of(cause)) from error
        except (httpx.TransportError, OSError) as error:
            raise ServiceError(
                Reason.BACKEND_STREAM_INTERRUPTED,
                "the connection to Ollama broke before Ollama answered",
            ) from error

    def _join(self, route: str) -> httpx.URL:
        path = self._base_url.raw_path.rstrip(b"/") + route.encode()
        return self._base_url.copy_with(raw_path=path)

    def _close_one(self) -> None:
        self._open -= 1


def _cause_of(error: BaseException | None) -> str:
    """Why no connection was made, without texts of the peer."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason}"
    return getattr(error, "strerror", None) or type(error).__name__


def _body_stream(body: bytes | AsyncIterable[bytes] | None) -> httpx.AsyncByteStream:
    """The body as a stream. httpx would add headers to any other form, at ten times the cost."""
    return httpx.ByteStream(body or b"") if isinstance(body, bytes | None) else _Pieces(body)


class _Pieces(httpx.AsyncByteStream):
    """A body whose length is not known."""

    def __init__(self, pieces: AsyncIterable[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._pieces)


def _stalled(timeout_s: float | None) -> ServiceError:
    return ServiceError(Reason.BACKEND_STALLED, f"Ollama sent nothing for {timeout_s:g} s")
