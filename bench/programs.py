"""Programs on one core: a contestant with all its processes, or the fake Ollama."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

CONTESTANT_CORE = 0
LOAD_CORE = 1
ALL_CORES = "0-1"
STOP_TIMEOUT_S = 5.0
PORT_TIMEOUT_S = 90.0
POLL_S = 0.005
IDLE_TIMEOUT_S = 10.0
IDLE_PERIOD_S = 0.1
IDLE_SHARE_MAX = 0.25
LOG_CHARS_MAX = 2000


class BenchError(Exception):
    """The run cannot go on; the message says why."""


class Program:
    """A running program, with the processes that it started."""

    def __init__(
        self,
        command: Sequence[str],
        cores: int | str,
        log: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start it on one or more cores. Its output goes to `log`."""
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                ["taskset", "--cpu-list", str(cores), *command],
                stdout=file,
                stderr=file,
                env={**os.environ, **(env or {})},
                # Ctrl-C reaches only the runner, which stops every program.
                start_new_session=True,
            )

    def cpu_s(self) -> float:
        """The CPU time of its processes so far, in seconds."""
        spent_s = 0.0
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent_s += times.user + times.system
        return spent_s

    def rss_bytes(self) -> int:
        """The resident memory of its processes."""
        rss_bytes = 0
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                rss_bytes += process.memory_info().rss
        return rss_bytes

    def peak_rss_bytes(self) -> int:
        """The sum of the largest resident memory that each of its processes has had."""
        return sum(map(_peak_rss_bytes, self._processes()))

    def wait_for_port(self, port: int) -> None:
        """Wait until it listens. Raises BenchError if it ends or takes longer than 90 s."""
        deadline_s = time.monotonic() + PORT_TIMEOUT_S
        while not _listens(port):
            if self._process.poll() is not None:
                raise BenchError(f"it ended with exit code {self._process.returncode}{self.log()}")
            if time.monotonic() > deadline_s:
                raise BenchError(f"it did not listen within {PORT_TIMEOUT_S:g} s{self.log()}")
            time.sleep(POLL_S)

    def wait_until_idle(self) -> None:
        """Wait until it has finished what calls left behind, 10 s at most."""
        deadline_s = time.monotonic() + IDLE_TIMEOUT_S
        used_s = self.cpu_s()
        while time.monotonic() < deadline_s:
            time.sleep(IDLE_PERIOD_S)
            before_s, used_s = used_s, self.cpu_s()
            if used_s - before_s < IDLE_SHARE_MAX * IDLE_PERIOD_S:
                return

    def log(self) -> str:
        """The end of its output, on lines of its own."""
        return "\n" + self._log.read_text(errors="replace")[-LOG_CHARS_MAX:]

    def stop(self) -> None:
        """End it by SIGTERM, and what is left of it after 5 s by SIGKILL."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_TIMEOUT_S)

    def _processes(self) -> list[psutil.Process]:
        try:
            leader = psutil.Process(self._process.pid)
            return [leader, *leader.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


@contextmanager
def running(
    command: Sequence[str], cores: int | str, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Run a program, and stop it at the end."""
    program = Program(command, cores, log, env)
    try:
        yield program
    finally:
        program.stop()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _peak_rss_bytes(process: psutil.Process) -> int:
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    values = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(values[0]) * 1024 if values else 0
