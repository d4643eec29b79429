"""Runs the command line of the Python client, with pipes or at a pseudo-terminal."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TIMEOUT_S = 30.0
_SIGNALS = (signal.SIGINT, signal.SIGHUP)
# Runs a command to its end; see `run`.
Eudai = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(address: str, home: Path) -> dict[str, str]:
    """Variables that name the scripted server, and no history of the user."""
    return {
        **os.environ, "EUDAI_ADDRESS": address, "XDG_STATE_HOME": str(home), "TERM": "xterm",
        "COLUMNS": "100",
    }  # fmt: skip


def run(
    address: str, home: Path, *arguments: str, stdin: str = "", **env: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, with pipes for a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "eudai.cli", *arguments],
        env=environment(address, home) | env,
        input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


@contextmanager
def terminal(address: str, home: Path, *arguments: str) -> Iterator["Terminal"]:
    """A command at a terminal."""
    master, slave = pty.openpty()
    with _default_signals():
        process = subprocess.Popen(
            [sys.executable, "-m", "eudai.cli", *arguments], env=environment(address, home),
            stdin=slave, stdout=slave, stderr=slave,
        )  # fmt: skip
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@contextmanager
def _default_signals() -> Iterator[None]:
    """Let a program that starts in the block have the signals of a terminal's programs.

    A test run in the background (`nohup`, `&`) ignores them, and so would what it starts.
    """
    before = {number: signal.signal(number, signal.SIG_DFL) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Terminal:
    """A command at a terminal, and what it has shown."""

    def __init__(self, master: int, process: "subprocess.Popen[bytes]") -> None:
        self._master = master
        self.process = process
        self.shown = ""

    def type(self, text: str) -> None:
        """Type some keys."""
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> str:
        """What was shown up to a text, which is taken out."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while text not in self.shown:
            assert time.monotonic() < deadline_s, self.shown
            self.shown += os.read(self._master, 4096).decode(errors="replace")
        before, _, self.shown = self.shown.partition(text)
        return before
