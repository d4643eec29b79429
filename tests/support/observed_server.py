"""A server in a process of its own that reports its state: tasks, slots, and the event loop's lag.

    python observed_server.py KEEPALIVE_S KEEPALIVE_TIMEOUT_S

The environment configures it as it configures eudai-server. It answers each line on standard input
with a line of JSON, and drains at the end of the input.
"""

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import uvloop
from processes import spawn

TICK_S = 0.01
START_TIMEOUT_S = 20.0


# ---- in the server's process


async def _serve(patience: list[float]) -> None:
    from eudai_server.process import (  # noqa: PLC0415 - as below
        configure_grpc,
        limit_arenas,
        raise_open_files,
    )

    configure_grpc(os.environ)
    import grpc  # noqa: PLC0415 - as below
    from eudai_server.app import App  # noqa: PLC0415 - the tests' process needs none of them
    from eudai_server.config import Config  # noqa: PLC0415
    from eudai_server.rpc.transport.listener import ClientTimeouts  # noqa: PLC0415
    from eudai_server.telemetry import configure_logging  # noqa: PLC0415

    limit_arenas(os.environ)
    configure_logging()
    records = _Records()
    logging.getLogger("eudai_server").addHandler(records)
    raise_open_files()
    app = App(
        Config.from_env(os.environ),
        ClientTimeouts(keepalive_s=patience[0], keepalive_timeout_s=patience[1]),
    )
    port = await app.start()
    app.parts.schema_checks.start()  # as eudai-server does
    gc.freeze()  # as above
    lags: list[float] = []
    busy: list[float] = []
    ticking = asyncio.create_task(_tick(lags, busy))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    print(port, flush=True)
    while await reader.readline():
        admission = app.parts.admission
        late = sorted(lags) or [0.0]
        inside = {
            "tasks": len(asyncio.all_tasks()),
            "running": admission.running,
            "queued": admission.queued,
            "calls": records.calls,
            "errors": records.errors,
            "grpcio": grpc.__version__,
            "lag_p99_ms": late[int(len(late) * 0.99)] * 1000,
            "lag_max_ms": late[-1] * 1000,
            "busy_max_ms": max(busy, default=0.0) * 1000,
        }
        lags.clear()
        busy.clear()
        print(json.dumps(inside), flush=True)
    ticking.cancel()
    await app.drain()


class _Records(logging.Handler):
    """Counts the calls and the errors that the server logs."""

    calls = 0
    errors = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.calls += record.getMessage() == "call"
        self.errors += record.levelno >= logging.ERROR


async def _tick(lags: list[float], busy: list[float]) -> None:
    """Record the loop's lag, and its thread's CPU time, which other programs do not affect."""
    while True:
        begin_s, begin_cpu_s = time.monotonic(), time.thread_time()
        await asyncio.sleep(TICK_S)
        lags.append(time.monotonic() - begin_s - TICK_S)
        busy.append(time.thread_time() - begin_cpu_s)


# ---- in the test's process


class Observed:
    """A running server process."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self.address = f"127.0.0.1:{port}"
        self.seen = psutil.Process(process.pid)

    async def report(self) -> dict[str, Any]:
        """Tasks, slots, and lag since the last report, as the server itself reports them."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        line = await asyncio.to_thread(self._process.stdout.readline)
        report: dict[str, Any] = json.loads(line)
        return report

    async def inside(self) -> dict[str, Any]:
        """The report, with the process's files, sockets and memory.

        Counting sockets blocks this process for tens of milliseconds if the machine has had many.
        """
        return await self.report() | {
            "fds": self.seen.num_fds(),
            "sockets": len(self.seen.net_connections()),
            "rss": self.seen.memory_info().rss,
        }

    async def until_idle(self, timeout_s: float = 10.0) -> dict[str, Any]:
        """Wait until no slot is taken."""
        async with asyncio.timeout(timeout_s):
            while (now := await self.inside())["running"] or now["queued"]:
                await asyncio.sleep(0.01)
        return now

    async def peak_rss(self) -> int:
        """The peak of the resident memory, in bytes."""
        status = await asyncio.to_thread(Path(f"/proc/{self._process.pid}/status").read_text)
        return int(status.split("VmHWM:")[1].split()[0]) * 1024


@asynccontextmanager
async def observing(
    url: str, keepalive_s: float = 20.0, keepalive_timeout_s: float = 10.0, **env: str
) -> AsyncIterator[Observed]:
    """Start a server in a process of its own, in front of an Ollama."""
    variables = {
        **os.environ,
        "OLLAMA_BASE_URL": url,
        "EUDAI_LISTEN": "127.0.0.1:0",
        "EUDAI_LAME_DUCK": "0",
        **env,
    }
    process = spawn(
        sys.executable, __file__, str(keepalive_s), str(keepalive_timeout_s),
        env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout
    assert process.stdin
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            port = int(await asyncio.to_thread(process.stdout.readline))
        yield Observed(process, port)
    finally:
        process.stdin.close()
        try:
            await asyncio.to_thread(process.wait, START_TIMEOUT_S)
        finally:
            process.kill()
            process.stdout.close()


if __name__ == "__main__":
    from eudai_server.rpc.transport.event_loop import EventLoop

    uvloop.run(_serve([float(argument) for argument in sys.argv[1:]]), loop_factory=EventLoop)
