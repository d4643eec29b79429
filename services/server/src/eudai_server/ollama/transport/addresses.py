"""The addresses of a host, which are asked for again only after some seconds.

Without this, each request would wait for the resolver, in a thread.
"""

import asyncio
import socket

LIFETIME_S = 10.0


class Addresses:
    """The addresses of one host."""

    def __init__(self, host: str, port: int) -> None:
        """`host` is a name or an IP address."""
        self._host = host
        self._port = port
        self._known: list[str] = []
        self._expires_s = 0.0

    async def resolve(self) -> list[str]:
        """The IP addresses, the preferred one first. Raises OSError if there is none."""
        loop = asyncio.get_running_loop()
        if not self._known or loop.time() >= self._expires_s:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._known = [str(address[0]) for *_, address in found]
            self._expires_s = loop.time() + LIFETIME_S
        return self._known

    def forget(self) -> None:
        """Ask again before the next request, because no address could be reached."""
        self._known = []
