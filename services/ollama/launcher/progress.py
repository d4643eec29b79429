"""Runs long commands as steps that report their progress on standard error."""

import contextlib
import errno
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

REPORT_INTERVAL_S = 5.0
TAIL_LINES = 12


class LaunchError(Exception):
    """The launcher cannot continue; the message says what to change."""


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"eudai: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(label: str) -> Iterator[None]:
    """Announce a step, report every few seconds that it continues, and how long it took."""
    say(f"{label} …")
    begin_s = time.monotonic()
    done = threading.Event()

    def report() -> None:
        while not done.wait(REPORT_INTERVAL_S):
            say(f"  … {time.monotonic() - begin_s:.0f} s")

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise LaunchError(
                f"the disk is full ({error.filename}); free some space and try again"
            ) from error
        raise
    finally:
        done.set()
        reporter.join()
    say(f"  done in {time.monotonic() - begin_s:.1f} s")


def run_step(
    label: str, command: Sequence[str | Path], log: Path, *, cwd: Path, env: Mapping[str, str]
) -> None:
    """Run a command as a step, with its output in `log`.

    Raises LaunchError with the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with step(label), log.open("wb") as output:
        code = subprocess.call(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        if code:
            raise LaunchError(
                f"{label}: failed with exit code {code}\n{tail(log)}\nFull log: {log}"
            )


def tail(log: Path) -> str:
    """The last lines of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join(f"    {line}" for line in lines)


def require_disk(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise LaunchError before a long step if the disk has too little space for its result."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise LaunchError(
            f"{what} needs {needed_bytes >> 20} MiB in {folder}, which has {free_bytes >> 20} MiB "
            "free; free some space, or point EUDAI_CACHE at another disk"
        )
