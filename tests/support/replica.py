"""The installed server as a process that a test may stop, kill and restart; and a real Envoy."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from calls import channel_to, until_health
from processes import BIN, free_port, spawn

EXIT_TIMEOUT_S = 20.0
ENVOY = BIN / "envoy"


class Replica:
    """One server process, always at the same port."""

    def __init__(self, url: str, **env: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._env = {
            **os.environ,
            "OLLAMA_BASE_URL": url,
            "EUDAI_LISTEN": self.address,
            "EUDAI_LAME_DUCK": "0",
            **env,
        }
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> float:
        """Start it, and return the seconds until it was SERVING."""
        begin_s = time.monotonic()
        self._process = spawn(BIN / "eudai-server", env=self._env, stderr=subprocess.DEVNULL)
        async with channel_to(
            self.address,
            [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)],
        ) as channel:
            await until_health(channel, serving=True, name="eudai.v1.GenerationService")
        return time.monotonic() - begin_s

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end, and return its exit code."""
        assert self._process
        return await asyncio.to_thread(self._process.wait, EXIT_TIMEOUT_S)

    def kill(self) -> None:
        """Kill it, whatever its state."""
        if self._process:
            self._process.kill()
            self._process.wait()


@asynccontextmanager
async def replica(url: str, **env: str) -> AsyncIterator[Replica]:
    """Start a server, and wait until it is SERVING."""
    server = Replica(url, **env)
    try:
        await server.start()
        yield server
    finally:
        server.kill()


@asynccontextmanager
async def envoy(folder: Path, first: Replica, second: Replica) -> AsyncIterator[str]:
    """Start a real Envoy in front of two servers; yields its address."""
    if not ENVOY.exists():
        pytest.skip("there is no Envoy; make reliability installs it")
    port = free_port()
    text = Path(__file__).with_name("envoy.yml").read_text()
    for name, value in (
        ("LISTEN", port),
        ("FIRST", first.address.split(":")[1]),
        ("SECOND", second.address.split(":")[1]),
    ):
        text = text.replace(name, str(value))
    config = folder / "envoy.yml"
    config.write_text(text)
    arguments = [
        "--config-path",
        str(config),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "error",
    ]
    process = spawn(ENVOY, *arguments)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
