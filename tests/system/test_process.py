"""The installed programs with the real Ollama, as an operator and a first-time user run them."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time

import grpc
import psutil
import pytest
from eudai.v1 import generation_service_pb2 as pb
from processes import (
    BIN,
    ROOT,
    TIMEOUT_S,
    Runners,
    ended_server,
    eudai,
    eudai_server,
    free_port,
    grpcurl,
    last_work_s,
)
from serving import Server

FIRST_CALL = '{"model":"gemma3:270m","prompt":"hi","stop":{"max_output_tokens":8}}'
GENERATE = "eudai.v1.GenerationService/Generate"
EXIT_CONFIG = 78


def test_the_first_call_of_the_readme_streams_real_tokens(real_url: str) -> None:
    with eudai_server(OLLAMA_BASE_URL=real_url) as (address, _):
        listed = grpcurl(address, "list").stdout.split()
        described = grpcurl(address, "describe")
        called = grpcurl("-d", FIRST_CALL, address, GENERATE)

    assert listed == [
        "eudai.v1.EmbeddingService",
        "eudai.v1.GenerationService",
        "eudai.v1.ModelService",
        "eudai.v1.ServerService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    assert described.returncode == 0
    assert (
        "rpc Generate ( .eudai.v1.GenerateRequest ) returns ( stream .eudai.v1.GenerateResponse );"
        in described.stdout
    )
    assert called.returncode == 0
    assert '"finished"' in called.stdout


def test_reflection_can_be_switched_off(real_url: str) -> None:
    with eudai_server(OLLAMA_BASE_URL=real_url, EUDAI_REFLECTION="false") as (address, _):
        assert "does not support the reflection API" in grpcurl(address, "list").stderr


def test_the_command_line_client_streams_and_explains(real_url: str) -> None:
    with eudai_server(OLLAMA_BASE_URL=real_url) as (address, _):
        answered = eudai(
            address,
            "generate",
            "--max-output-tokens",
            "5",
            "--temperature",
            "0",
            "The capital of France is",
        )
        piped = eudai(
            address, "generate", "--max-output-tokens", "5", "-", stdin="Once upon a time"
        )
        refused = eudai(address, "generate", "--max-output-tokens", "-1", "hi")
        unready = eudai(address, "healthcheck", "--service", "model/nope")

    assert answered.returncode == 0
    assert answered.stdout.strip()
    assert "LENGTH, 6 input tokens, 5 output tokens" in answered.stderr
    assert piped.returncode == 0
    assert refused.returncode == 1
    assert "stop.max_output_tokens: must be more than 0" in refused.stderr
    assert (unready.returncode, unready.stdout) == (1, "NOT_SERVING\n")
    assert eudai(address, "healthcheck").returncode == 1


def test_sigterm_drains_and_exits_0_with_one_json_line_a_call(real_url: str) -> None:
    with eudai_server(OLLAMA_BASE_URL=real_url) as (address, process):
        eudai(address, "generate", "--max-output-tokens", "2", "SECRET")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=TIMEOUT_S)
    lines = [json.loads(line) for line in log.splitlines()]
    calls = [line for line in lines if line["message"] == "call"]

    assert process.returncode == 0
    assert [(call["outcome"], call["model"], call["finish_reason"]) for call in calls] == [
        ("OK", "gemma3:270m", "LENGTH")
    ]
    assert "SECRET" not in log


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells limits of another process")
def test_the_limit_of_open_files_is_raised(real_url: str) -> None:
    lowered = ("sh", "-c", 'ulimit -Sn 256 && exec "$0"')
    with eudai_server(*lowered, OLLAMA_BASE_URL=real_url) as (_, process):
        soft, hard = psutil.Process(process.pid).rlimit(psutil.RLIMIT_NOFILE)

    assert soft == hard > 256


def test_a_second_signal_ends_the_drain(real_url: str) -> None:
    with eudai_server(OLLAMA_BASE_URL=real_url, EUDAI_LAME_DUCK="60") as (address, process):
        process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + TIMEOUT_S
        while eudai(address, "healthcheck").returncode == 0:
            assert time.monotonic() < deadline_s
        process.send_signal(signal.SIGTERM)
        begin_s = time.monotonic()
        process.communicate(timeout=TIMEOUT_S)

    assert process.returncode == 0
    assert time.monotonic() - begin_s < 20  # less than the lame duck of 60 s


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("EUDAI_LISTEN", "nonsense"),
        ("OLLAMA_BASE_URL", "ftp://x"),
        ("EUDAI_LAME_DUCK", "soon"),
        ("EUDAI_METRICS_LISTEN", "/x"),
    ],
)
def test_a_bad_configuration_exits_78_and_names_it(variable: str, text: str) -> None:
    ended = ended_server(**{variable: text})

    assert ended.returncode == EXIT_CONFIG
    assert ended.stderr.startswith(f"eudai-server: {variable} ")


def test_a_port_in_use_exits_78_and_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = ended_server(EUDAI_LISTEN=address)

    assert ended.returncode == EXIT_CONFIG
    assert "EUDAI_LISTEN" in ended.stderr


def test_the_demo_streams_and_stops_without_a_terminal(real_url: str) -> None:
    env = {**os.environ, "OLLAMA_BASE_URL": real_url, "EUDAI_LISTEN": f"127.0.0.1:{free_port()}"}
    ended = subprocess.run(
        [BIN / "python", ROOT / "services/run.py", "The capital of France is"],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert ended.returncode == 0
    assert len(ended.stdout.split()) > 5
    assert eudai(env["EUDAI_LISTEN"], "healthcheck").returncode == 1


async def test_a_cancelled_generation_leaves_the_model_idle(
    real_server: Server, real_url: str
) -> None:
    request = pb.GenerateRequest(model="gemma3:270m", prompt="Once upon a time")
    request.stop.max_output_tokens = 4000
    port = int(real_url.rpartition(":")[2])
    others = _streams_to(port)
    call = real_server.generation.Generate(request)
    deltas = 0
    while deltas < 3:
        deltas += (await call.read()).HasField("delta")
    (runner,) = Runners(real_url, "gemma3:270m").now()
    await _until_it_works(runner)
    begin_s = time.monotonic()
    call.cancel()
    async with asyncio.timeout(TIMEOUT_S):
        while _streams_to(port) > others:
            await asyncio.sleep(0.002)
    closed_s = time.monotonic() - begin_s
    worked_s = await last_work_s(runner, quiet_s=0.5, timeout_s=TIMEOUT_S) - begin_s
    print(f"after the cancellation: closed in {closed_s:.3f} s, idle in {worked_s:.2f} s")

    assert worked_s < 5  # all 4,000 tokens would take half a minute or more
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    assert await call.code() is grpc.StatusCode.CANCELLED


async def _until_it_works(process: psutil.Process) -> None:
    used_s = process.cpu_times().user
    async with asyncio.timeout(TIMEOUT_S):
        while process.cpu_times().user <= used_s:
            await asyncio.sleep(0.01)


def _streams_to(port: int) -> int:
    """The number of open connections of this process to Ollama, except those of the probe."""
    connections = [
        each
        for each in psutil.Process().net_connections("tcp")
        if each.raddr and each.raddr.port == port
    ]
    return sum(each.status == psutil.CONN_ESTABLISHED for each in connections)
