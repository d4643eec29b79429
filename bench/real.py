"""Compares eudai with the real Ollama at OLLAMA_BASE_URL: one answer at a time, in turns.

`make bench-real` measures gemma3:270m, and a scripted model that generates thousands of tokens a
second.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
from eudai.v1 import (
    generation_service_pb2 as pb,
    generation_service_pb2_grpc as rpc,
    options_pb2,
)
from processes import free_port
from scripted_model import Script, write_model
from scripted_model.creation import created

from bench import report, results
from bench.programs import ALL_CORES, running
from bench.roster import Place, eudai
from bench.run import RESULTS
from bench.startup import wait_until_serving

MODEL = "gemma3:270m"
PROMPT = "Count from one to twenty in words."
TOKENS = {"real": 64, "real-fast": 1000}
ROUNDS = 20
TIMEOUT_S = 60.0
# What the scripted model writes.
COUNT = tuple(b"n%d " % number for number in range(100))

# Generates a number of tokens with a model; returns the metrics.
Ask = Callable[[str, int], dict[str, float]]


def ask_ollama(client: httpx.Client) -> Ask:
    """A function that generates with Ollama itself."""

    def ask(model: str, tokens_max: int) -> dict[str, float]:
        options = {"num_predict": tokens_max, "seed": 1}
        body = {"model": model, "prompt": PROMPT, "options": options}
        begin_s = time.perf_counter()
        first_s, tokens = 0.0, 0
        with client.stream("POST", "/api/generate", json=body) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                event = json.loads(line)
                if event["response"] and not first_s:
                    first_s = time.perf_counter()
                tokens = event.get("eval_count", tokens)
        return _metrics(begin_s, first_s, tokens)

    return ask


def ask_eudai(stub: rpc.GenerationServiceStub) -> Ask:
    """A function that generates with eudai."""

    def ask(model: str, tokens_max: int) -> dict[str, float]:
        request = pb.GenerateRequest(
            model=model,
            prompt=PROMPT,
            sampling=options_pb2.SamplingOptions(seed=1),
            stop=options_pb2.StopOptions(max_output_tokens=tokens_max),
        )
        begin_s = time.perf_counter()
        first_s, tokens = 0.0, 0
        for event in stub.Generate(request, timeout=TIMEOUT_S):
            if event.delta.text and not first_s:
                first_s = time.perf_counter()
            tokens = event.finished.usage.output_tokens
        return _metrics(begin_s, first_s, tokens)

    return ask


def measure(asks: tuple[Ask, Ask], model: str, cell: str, writer: results.Writer) -> None:
    """Ask both in turns, after one answer of each that warms up."""
    for number in range(ROUNDS + 1):
        of_direct, of_ours = (ask(model, TOKENS[cell]) for ask in asks)
        of_ours["ttft_added_us"] = of_ours["ttft_p50_us"] - of_direct["ttft_p50_us"]
        if number:
            writer.write(number, "direct", cell, of_direct)
            writer.write(number, "eudai", cell, of_ours)


def main() -> int:
    """Measure both models, and print the report."""
    url = os.environ["OLLAMA_BASE_URL"]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("real-%Y%m%d-%H%M%S.csv")
    with path.open("w") as file, tempfile.TemporaryDirectory(prefix="eudai-bench-") as name:
        writer = results.Writer(file, results.facts())
        folder = Path(name)
        with _asked(url, folder) as asks, _scripted_model(url, folder) as fast:
            measure(asks, MODEL, "real", writer)
            measure(asks, fast, "real-fast", writer)
    print(report.text(results.read(path)))
    return 0


@contextmanager
def _asked(url: str, folder: Path) -> Iterator[tuple[Ask, Ask]]:
    """Start eudai; yields functions that generate with Ollama and with eudai."""
    place = Place(free_port(), url, folder)
    server = eudai(Path(sys.executable))
    assert server.command
    with running(
        server.command(place), ALL_CORES, folder / "eudai.log", server.env(place)
    ) as program:
        program.wait_for_port(place.port)
        wait_until_serving(place.address)
        with (
            grpc.insecure_channel(place.address) as channel,
            httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client,
        ):
            yield ask_ollama(client), ask_eudai(rpc.GenerationServiceStub(channel))


@contextmanager
def _scripted_model(url: str, folder: Path) -> Iterator[str]:
    """Create a model that generates thousands of tokens a second, and delete it at the end."""
    path = folder / "model.gguf"
    write_model(path, {"count": Script(tokens=COUNT, repeats=True)}, {})
    with created(url, f"eudai-bench-{os.getpid()}", path, template="{{ .Prompt }}") as name:
        yield name


def _metrics(begin_s: float, first_s: float, tokens: int) -> dict[str, float]:
    end_s = time.perf_counter()
    return {
        "ttft_p50_us": (first_s - begin_s) * 1e6,
        "tokens_per_s": tokens / (end_s - begin_s),
    }


if __name__ == "__main__":
    sys.exit(main())
