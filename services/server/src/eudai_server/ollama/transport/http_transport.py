"""An httpx transport that opens a connection for each request, and tells what has arrived at once.

Why not one of the transports that exist: see ADR 23.
"""

import asyncio
import ssl
from typing import cast

import httpx

from eudai_server.ollama.transport.addresses import Addresses
from eudai_server.ollama.transport.connection import Connection

_PORTS = {"http": 80, "https": 443}


class HttpTransport(httpx.AsyncBaseTransport):
    """Sends requests to one server. Limits only the time to connect."""

    def __init__(
        self, base_url: httpx.URL, connect_timeout_s: float, tls: ssl.SSLContext | None = None
    ) -> None:
        """`base_url` gives the scheme, host and port; it is not checked again for each request.

        `tls` says which certificates are trusted; by default those of the system.
        """
        self._host = base_url.host
        self._port = base_url.port or _PORTS[base_url.scheme]
        # Loading the certificates of the system takes 30 ms.
        is_https = base_url.scheme == "https"
        self._tls = (tls or ssl.create_default_context()) if is_https else None
        self._addresses = Addresses(self._host, self._port)
        self._connect_timeout_s = connect_timeout_s

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its response when the head has arrived.

        The stream of the response is a Connection. Raises `httpx.ConnectError` or
        `httpx.ConnectTimeout` if nothing was sent, and other `httpx.TransportError` afterwards.
        """
        connection = await self._connect(has_body=request.method != "HEAD")
        try:
            connection.limit_head(request.extensions.get("timeout", {}).get("read"))
            if isinstance(request.stream, httpx.ByteStream):
                body = request.read()
                length = b"Content-Length: %d\r\n\r\n" % len(body)
                await connection.write(_head(request) + length + body)
            else:
                await connection.write(_head(request) + b"Transfer-Encoding: chunked\r\n\r\n")
                await connection.write_chunks(cast("httpx.AsyncByteStream", request.stream))
            await connection.read_head()
        except BaseException:
            connection.close()
            raise
        return httpx.Response(
            connection.status, headers=connection.headers, stream=connection, request=request
        )

    async def _connect(self, *, has_body: bool) -> Connection:
        error: OSError | None = None
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                for address in await self._addresses.resolve():
                    try:
                        return await self._connect_to(address, has_body=has_body)
                    except OSError as failure:
                        # "Refused" says more than "this machine has no route".
                        if error is None or isinstance(failure, ConnectionRefusedError):
                            error = failure
        except TimeoutError as timeout:
            raise httpx.ConnectTimeout("no connection in time") from timeout
        except OSError as failure:
            error = failure
        self._addresses.forget()
        raise httpx.ConnectError(str(error)) from error

    async def _connect_to(self, address: str, *, has_body: bool) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(has_body=has_body),
            address,
            self._port,
            ssl=self._tls,
            server_hostname=self._host if self._tls else None,
        )
        return connection


def _head(request: httpx.Request) -> bytes:
    """The head, without the header that tells how long the body is, and without its end."""
    lines = [request.method.encode(), b" ", request.url.raw_path, b" HTTP/1.1\r\n"]
    for name, value in request.headers.raw:
        lines += [name, b": ", value, b"\r\n"]
    return b"".join(lines)
