"""R23: a request whose path is not valid UTF-8, on the locked grpcio and on a newer one."""

import asyncio
import time
from typing import Any

import grpc
import pytest
from calls import channel_to, generate, until_health
from http2_client import http2_to
from observed_server import observing
from processes import ROOT
from reliability_table import Row
from scripted_ollama import ScriptedOllama, words

PATH = b"/\xff/x"
NEWER_GRPCIO = ROOT / ".venv/newer-grpcio"
TIMEOUT_S = 20.0


@pytest.mark.row("R23", "a path that is not UTF-8: the next call succeeds within a second")
async def test_a_hostile_path_delays_no_call(ollama: ScriptedOllama, figures: Row) -> None:
    errors = await _note_delays(figures, ollama, grpc.__version__, {})
    figures.count("errors logged", errors, "==", 0)


@pytest.mark.timeout(120)
@pytest.mark.row("R23b", "the same on a grpcio whose accept loop ends: the server listens again")
async def test_a_hostile_path_delays_no_call_on_a_newer_grpcio(
    ollama: ScriptedOllama, figures: Row
) -> None:
    if not (NEWER_GRPCIO / "installed.stamp").exists():
        pytest.skip("the newer grpcio is installed by make reliability")
    env = {"PYTHONPATH": str(NEWER_GRPCIO)}
    errors = await _note_delays(figures, ollama, "1.85.1", env)
    figures.count("errors logged, of loops that ended", errors, ">=", 1)


async def _note_delays(figures: Row, ollama: ScriptedOllama, version: str, env: Any) -> int:
    """Note how long each frame delays the next call; return how many errors the server logged."""
    ollama.scripts["/api/generate"] = words("x")
    delays_s = []
    async with observing(ollama.url, **env) as server:
        async with channel_to(server.address) as channel:
            await until_health(channel, serving=True)
        assert (await server.inside())["grpcio"] == version
        for _ in range(figures.some(20, 3)):
            async with http2_to(server.address) as raw:
                await raw.request(PATH)
                delays_s.append(await _until_answered(server.address))
        errors: int = (await server.inside())["errors"]
    figures.count(f"frames, to grpcio {version}", len(delays_s))
    figures.time("frame to the next call that succeeds, worst s", max(delays_s), "<=", 1)
    return errors


async def _until_answered(address: str) -> float:
    """Call until a call succeeds, and return the seconds until then."""
    begin_s = time.monotonic()
    while time.monotonic() - begin_s < TIMEOUT_S:
        async with channel_to(address) as channel:
            if (await generate(channel, timeout_s=TIMEOUT_S)).finished:
                return time.monotonic() - begin_s
        await asyncio.sleep(0.01)
    raise AssertionError("no call succeeded")
