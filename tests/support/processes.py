"""Processes under test: the installed server, the command line client, grpcurl, and runners."""

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TIMEOUT_S = 30.0
# Below the ports that systems use for outgoing connections.
PORTS = (10_000, 32_000)


def free_port() -> int:
    """A port that nothing listens on, below the range that systems use for outgoing connections."""
    while True:
        port = random.randrange(*PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for_port(port: int) -> None:
    """Wait until a program listens on a port."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline_s, f"nothing listens on port {port}"
            time.sleep(0.05)
        else:
            return


def spawn(*command: str | Path, **options: Any) -> "subprocess.Popen[bytes]":
    """Start a process. Not with uvloop: it forks, and a fork in which gRPC runs may hang."""
    return subprocess.Popen(command, **options)


@contextmanager
def eudai_server(*before: str, **env: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run the installed server as a process of its own; yields its address and the process.

    `before` is a command that executes the one after it.
    """
    address = f"127.0.0.1:{free_port()}"
    variables = {**os.environ, "EUDAI_LISTEN": address, "EUDAI_LAME_DUCK": "0", **env}
    process = subprocess.Popen(
        [*before, BIN / "eudai-server"], env=variables, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until_ready(address, process)
        yield address, process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()


def ended_server(**env: str) -> "subprocess.CompletedProcess[str]":
    """Run the installed server to its end, which an invalid configuration causes at once."""
    return subprocess.run(
        [BIN / "eudai-server"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def wait_until_ready(address: str, process: "subprocess.Popen[str]", service: str = "") -> None:
    """Wait until its health is SERVING."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while eudai(address, "healthcheck", "--service", service).returncode:
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline_s, "the server did not become ready"
        time.sleep(0.1)


def eudai(address: str, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command line client to its end."""
    command = [str(BIN / "eudai"), "--address", address, *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def grpcurl(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run grpcurl to its end."""
    return subprocess.run(
        [str(BIN / "grpcurl"), "-plaintext", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


async def last_work_s(process: psutil.Process, quiet_s: float, timeout_s: float) -> float:
    """Return when a process last used the CPU, once it has been quiet for `quiet_s`."""
    begin_s = last_s = time.monotonic()
    used = process.cpu_times().user
    while time.monotonic() - last_s < quiet_s:
        await asyncio.sleep(0.02)
        now = process.cpu_times().user
        if now > used:
            used, last_s = now, time.monotonic()
        assert time.monotonic() - begin_s < timeout_s, "it goes on"
    return last_s


def ollama_at(url: str) -> psutil.Process:
    """The process of the Ollama at this URL, which must run on this machine."""
    port = urlsplit(url).port or 80
    for process in psutil.process_iter():
        try:
            listens = any(
                each.status == psutil.CONN_LISTEN and each.laddr.port == port
                for each in process.net_connections()
            )
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
        if listens:
            return process
    raise AssertionError(
        f"the Ollama at {url} does not run on this machine; these tests need it to"
    )


class Runners:
    """The processes in which the Ollama at a URL runs a model. Its other models have others."""

    def __init__(self, url: str, model: str) -> None:
        self._ollama = ollama_at(url)
        shown = httpx.post(f"{url}/api/show", json={"model": model}, trust_env=False, timeout=30)
        self._file = next(
            line.removeprefix("FROM ")
            for line in shown.json()["modelfile"].splitlines()
            if line.startswith("FROM ")
        )

    def now(self) -> list[psutil.Process]:
        """Those that run now."""
        return [child for child in self._ollama.children() if self._runs_it(child)]

    def _runs_it(self, process: psutil.Process) -> bool:
        try:
            return self._file in process.cmdline()
        except psutil.NoSuchProcess:
            return False
