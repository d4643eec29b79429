"""Servers that end TLS, check the certificates of clients, and check a token, by themselves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from certificates import Authority, Pair
from envoy_edge import Edge
from serving import config_for, serving
from tokens_file import TokensFile

SERVING_TIMEOUT_S = 20.0


@asynccontextmanager
async def server_edge(folder: Path, ollama_url: str) -> AsyncIterator[Edge]:
    """Start three servers in front of the Ollama at a URL."""
    authority = Authority()
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "other_ca.pem").write_bytes(Authority().pem)
    _write(folder, "server", authority.issue(addresses=["127.0.0.1"]))
    _write(folder, "client", authority.issue(dns=["client.example"]))
    tokens = TokensFile(folder / "tokens.json")
    ((_, presented),) = tokens.add()
    (folder / "token").write_text(presented.removeprefix("Bearer "))
    pair = {"tls_cert": folder / "server.pem", "tls_key": folder / "server.key"}
    kinds: list[dict[str, Any]] = [{}, {"tls_client_ca": folder / "ca.pem"}]
    kinds.append({"tokens_file": tokens.path})
    async with AsyncExitStack() as stack:
        addresses = []
        for kind in kinds:
            config = config_for(ollama_url, **pair, **kind)
            server = await stack.enter_async_context(serving(config))
            async with asyncio.timeout(SERVING_TIMEOUT_S):
                while not server.app.parts.readiness.serving:
                    await asyncio.sleep(0.005)
            addresses.append(server.address)
        names = ("ca.pem", "other_ca.pem", "client.pem", "client.key", "token")
        yield Edge(*addresses, *(str(folder / name) for name in names))


def _write(folder: Path, name: str, pair: Pair) -> None:
    (folder / f"{name}.pem").write_bytes(pair.cert)
    (folder / f"{name}.key").write_bytes(pair.key)
