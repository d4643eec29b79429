"""A second real Ollama that a test may kill, freeze and start again."""

import asyncio
import subprocess
import time

import httpx
import psutil
from processes import free_port, ollama_at

START_TIMEOUT_S = 30.0
LOAD_TIMEOUT_S = 60.0


class OwnOllama:
    """The same program and models as the suite's Ollama, on its own port.

    `changes` are changes to its environment.
    """

    def __init__(self, like_url: str, **changes: str) -> None:
        like = ollama_at(like_url)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [like.exe(), "serve"]
        self._env = like.environ() | {"OLLAMA_HOST": f"127.0.0.1:{self.port}", **changes}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> psutil.Process:
        """The server process; its children are runners."""
        assert self._process
        return psutil.Process(self._process.pid)

    def runners(self) -> list[psutil.Process]:
        """The processes that generate."""
        return self.process.children(recursive=True)

    async def start(self) -> None:
        """Start it, and return once it answers."""
        self._process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            self._command, env=self._env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end_s = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                assert time.monotonic() < end_s, "Ollama did not start"
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return

    async def load(self, model: str) -> None:
        """Load a model that generates, which may take long on a busy machine."""
        async with httpx.AsyncClient(trust_env=False, timeout=LOAD_TIMEOUT_S) as http:
            answer = await http.post(f"{self.url}/api/generate", json={"model": model})
            answer.raise_for_status()

    def kill(self) -> None:
        """Kill the server, and then its runners, which would continue alone."""
        if self._process:
            runners = self.runners() if self._process.poll() is None else []
            self._process.kill()
            self._process.wait()
            for runner in runners:
                runner.kill()
            self._process = None
