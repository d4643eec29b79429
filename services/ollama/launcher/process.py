"""Starts and stops the Ollama process at a base URL."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from cache import Cache
from models import Api
from progress import LaunchError, say, step, tail

DEFAULT_BASE_URL = "http://127.0.0.1:11434"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.1
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def answers(base_url: str) -> str | None:
    """The version of the Ollama at that URL; None if nothing listens there.

    Raises LaunchError if another server listens there.
    """
    url = urllib.parse.urlsplit(base_url)
    try:
        socket.create_connection((url.hostname or "", url.port or 80), timeout=2).close()
    except OSError:
        return None
    try:
        return str(Api(base_url).json("GET", "/api/version")["version"])
    except (LaunchError, OSError, http.client.HTTPException, KeyError) as error:
        raise LaunchError(
            f"the server at {base_url} is not Ollama; stop it, or set OLLAMA_BASE_URL to another "
            "port"
        ) from error


@dataclass(frozen=True)
class Process:
    """The Ollama that this launcher starts for one port."""

    cache: Cache
    base_url: str

    @property
    def _pid_file(self) -> Path:
        return self.cache.state / f"ollama-{urllib.parse.urlsplit(self.base_url).port or 80}.pid"

    def require_here(self) -> None:
        """Raise LaunchError if the URL is not on this machine, before Ollama is built."""
        if urllib.parse.urlsplit(self.base_url).hostname not in LOOPBACK:
            raise LaunchError(
                f"nothing answers at {self.base_url}, and the launcher can start Ollama only on "
                "this machine; start Ollama on that machine, or unset OLLAMA_BASE_URL"
            )

    def start(self, ollama: Path) -> None:
        """Start Ollama and wait until it answers, for at most a minute."""
        url = urllib.parse.urlsplit(self.base_url)
        home = self.cache.state / "home"
        home.mkdir(parents=True, exist_ok=True)
        env = {
            **os.environ,
            "HOME": str(home),
            "OLLAMA_HOST": f"{url.hostname}:{url.port or 80}",
            "OLLAMA_MODELS": str(self.cache.state / "models"),
            "OLLAMA_NO_CLOUD": "1",
            "OLLAMA_KEEP_ALIVE": "-1",
            "OLLAMA_CONTEXT_LENGTH": "4096",
            "OLLAMA_NUM_PARALLEL": "1",
            # Spinning threads lose nearly all speed when another process is busy.
            "OMP_WAIT_POLICY": "passive",
        }
        log = self.cache.log("ollama")
        log.parent.mkdir(parents=True, exist_ok=True)
        with step(f"start Ollama at {self.base_url}"), log.open("wb") as output:
            child = subprocess.Popen(
                [ollama, "serve"],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            self._pid_file.write_text(f"{child.pid} {started_at(child.pid)}")
            deadline_s = time.monotonic() + START_TIMEOUT_S
            while answers_yet(self.base_url) is None:
                if child.poll() is not None:
                    raise LaunchError(f"Ollama exited with code {child.returncode}:\n{tail(log)}")
                if time.monotonic() > deadline_s:
                    self.stop()
                    raise LaunchError(
                        f"Ollama did not answer within {START_TIMEOUT_S:.0f} s:\n{tail(log)}"
                    )
                time.sleep(POLL_S)

    def stop(self) -> bool:
        """Stop the Ollama that `start` started, with its runners.

        Returns False if there is none.
        """
        try:
            pid_text, began = self._pid_file.read_text().split()
        except (OSError, ValueError):
            return False
        self._pid_file.unlink()
        pid = int(pid_text)
        if started_at(pid) != began:  # the process id may have been reused
            return False
        os.killpg(pid, signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_TIMEOUT_S
        while started_at(pid) == began and time.monotonic() < deadline_s:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(POLL_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        say("Ollama stopped")
        return True


def answers_yet(base_url: str) -> str | None:
    """Like `answers` while a process starts: any failure means that it does not answer yet."""
    try:
        return answers(base_url)
    except LaunchError:
        return None


def started_at(pid: int) -> str:
    """When a process started, to recognise a reused process id; empty if there is no process."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] == "Z" else fields[19]
    answer = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return "_".join(answer.stdout.split())
