"""A scripted Ollama in a process of its own, with faults that a seed determines.

    python faulty_ollama.py SEED FAULT_SHARE TOKENS TOKEN_MS        prints its port

FAULT_SHARE of the generations have a fault: they are late, stall, or are cut; send garbage, an
error line, another content type or HTTP 503; close without an answer; or send single bytes.
"""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import uvloop
from processes import spawn
from scripted_ollama import (
    END,
    HEADERS_STREAM,
    RESET,
    Exchange,
    Script,
    ScriptedOllama,
    Step,
    chunk,
    done,
    error,
    line,
    numbered,
)

FAULTS = ("late", "stall", "cut", "garbage", "error line", "type", "503", "refuse", "slow body")
START_TIMEOUT_S = 20.0


class FaultyOllama:
    """Chooses a script for ScriptedOllama at random."""

    def __init__(self, seed: int, fault_share: float, tokens: int, token_s: float) -> None:
        self._rng = random.Random(seed)
        self._fault_share = fault_share
        self._tokens = tokens
        self._token_s = token_s

    def script(self, _exchange: Exchange) -> Script:
        """The script of one generation."""
        fault = self._rng.choice(FAULTS) if self._rng.random() < self._fault_share else ""
        match fault:
            case "503":
                return error(
                    503, "server busy, please try again.  maximum pending requests exceeded"
                )
            case "refuse":
                return [RESET]
            case "late":
                return [self._rng.uniform(0.1, 1.5), *self._stream("")]
            case "type":
                return [
                    HEADERS_STREAM.replace(b"application/x-ndjson", b"text/html"),
                    *list(self._stream(""))[1:],
                ]
        return list(self._stream(fault))

    def _stream(self, fault: str) -> Iterator[Step]:
        yield HEADERS_STREAM
        at = self._rng.randrange(self._tokens)
        for number, text in enumerate(numbered(self._tokens)):
            if number == at and fault in ("stall", "cut", "garbage", "error line"):
                yield {
                    "stall": 60.0,
                    "cut": RESET,
                    "garbage": chunk(b'{"resp\xff\n'),
                    "error line": chunk(line(error="boom")),
                }[fault]
                return
            yield self._token_s
            piece = line(response=text, done=False)
            yield from (
                (chunk(piece[at : at + 1]) for at in range(len(piece)))
                if fault == "slow body"
                else (chunk(piece),)
            )
        yield chunk(done(output=self._tokens))
        yield END


async def _serve(seed: int, fault_share: float, tokens: int, token_ms: float) -> None:
    ollama = ScriptedOllama()
    ollama.scripts["/api/generate"] = FaultyOllama(
        seed, fault_share, tokens, token_ms / 1000
    ).script
    await ollama.start()
    print(ollama.port, flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # the process that started it may be killed
        await asyncio.sleep(1)
        ollama.exchanges.clear()


@asynccontextmanager
async def faulty_ollama(
    seed: int = 0, fault_share: float = 0.0, tokens: int = 10, token_ms: float = 5
) -> AsyncIterator[tuple[str, int]]:
    """Start the process; yields its URL and its process id."""
    arguments = [str(argument) for argument in (seed, fault_share, tokens, token_ms)]
    process = spawn(sys.executable, __file__, *arguments, stdout=subprocess.PIPE)
    assert process.stdout
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            url = f"http://127.0.0.1:{int(await asyncio.to_thread(process.stdout.readline))}"
        yield url, process.pid
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    seed, fault_share, tokens, token_ms = sys.argv[1:]
    uvloop.run(_serve(int(seed), float(fault_share), int(tokens), float(token_ms)))
