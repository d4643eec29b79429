"""Measures how a server starts: until it is SERVING, its memory, its health check and its size."""

import subprocess
import time
from importlib.metadata import files
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.programs import CONTESTANT_CORE, BenchError, running
from bench.roster import ROOT, Contestant, Place

SERVING_TIMEOUT_S = 30.0
SETTLE_S = 1.0
HEALTHCHECK_TIMEOUT_S = 10.0


def measure_startup(contestant: Contestant, place: Place) -> dict[str, float]:
    """Start eudai once; returns its metrics. Raises BenchError if it does not become SERVING."""
    assert contestant.command
    command = contestant.command(place)
    packages = _packages()
    begin_s = time.monotonic()
    log = place.folder / "startup.log"
    with running(command, CONTESTANT_CORE, log, contestant.env(place)) as program:
        program.wait_for_port(place.port)
        wait_until_serving(place.address)
        serving_s = time.monotonic() - begin_s
        time.sleep(SETTLE_S)
        return {
            "serving_ms": serving_s * 1e3,
            "healthcheck_ms": _healthcheck_s(Path(command[0]), place.address) * 1e3,
            "idle_rss_bytes": program.rss_bytes(),
            "dependencies": len(packages),
            "installed_bytes": sum(map(_installed_bytes, packages)),
        }


def wait_until_serving(address: str) -> None:
    """Watch the health of the server, which reports each change at once."""
    request = health_pb2.HealthCheckRequest()
    serving = health_pb2.HealthCheckResponse.SERVING
    try:
        with grpc.insecure_channel(address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=SERVING_TIMEOUT_S)
            next(answer for answer in watch if answer.status == serving)
    except grpc.RpcError as error:
        raise BenchError(f"the server did not become SERVING: {error}") from error


def _healthcheck_s(python: Path, address: str) -> float:
    """How long `eudai healthcheck` takes, as a process."""
    command = [str(python.parent / "eudai"), "--address", address, "healthcheck"]
    begin_s = time.monotonic()
    check = subprocess.run(command, capture_output=True, timeout=HEALTHCHECK_TIMEOUT_S, check=False)
    if check.returncode:
        raise BenchError(f"the health check failed: {check.stderr.decode()}")
    return time.monotonic() - begin_s


def _packages() -> list[str]:
    """The names of the packages that the server installs."""
    lock = (ROOT / "requirements/server.txt").read_text().splitlines()
    return [line.split("==")[0] for line in lock if "==" in line and not line.startswith(" ")]


def _installed_bytes(package: str) -> int:
    """The size of the files of an installed package, without the bytecode that Python caches."""
    paths = (file for file in files(package) or () if file.suffix != ".pyc")
    return sum(Path(path.locate()).stat().st_size for path in paths)
