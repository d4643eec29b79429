"""A command goes in (start, stop, run, build); a local Ollama is started, stopped, or lent to a command.

    python3 services/ollama/launcher start            one answers at OLLAMA_BASE_URL afterwards, models included
    python3 services/ollama/launcher stop             stops the one that start started
    python3 services/ollama/launcher run -- COMMAND   runs the command with one; stops it again if it started it
    python3 services/ollama/launcher build MODULE PACKAGE TARGET   builds another pinned Go program

Needs Python 3.11 and nothing else: it runs before anything is installed.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from cache import Cache
from go import build
from install import obtain
from models import ensure_models
from process import DEFAULT_BASE_URL, Process, answers
from progress import LaunchError, say

EXIT_FAILED = 1
EXIT_USAGE = 64


def start(cache: Cache, base_url: str) -> bool:
    """True if an Ollama had to be started."""
    version = answers(base_url)
    if version is None:
        process = Process(cache, base_url)
        process.require_here()
        process.start(obtain(cache))
    say(
        f"Ollama {answers(base_url)} at "
        f"{base_url}{'' if version is None else ' (it was already running)'}"
    )
    ensure_models(base_url, cache)
    return version is None


def run(cache: Cache, base_url: str, command: list[str]) -> int:
    """Lend an Ollama to a command; returns its exit code. A signal to us ends the command, then the Ollama."""
    started = False
    try:
        started = start(cache, base_url)
        child = subprocess.Popen(command, env={**os.environ, "OLLAMA_BASE_URL": base_url})
        signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
        # A terminal sends Ctrl-C to the command too; it decides when to end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return child.wait()
    finally:
        if started:
            Process(cache, base_url).stop()


def main(arguments: list[str]) -> int:
    """Exit codes: the command's for `run`, 1 with a message for whatever is missing, 64 for a wrong call."""
    base_url = os.environ.get("OLLAMA_BASE_URL", DEFAULT_BASE_URL).rstrip("/")
    try:
        match arguments:
            case ["start"]:
                start(Cache.from_env(), base_url)
            case ["stop"]:
                if not Process(Cache.from_env(), base_url).stop():
                    say(f"no Ollama that this launcher started is running at {base_url}")
            case ["run", "--", *command] if command:
                return run(Cache.from_env(), base_url, command)
            case ["build", module, package, target]:
                cache = Cache.from_env()
                with cache.locked():
                    build(cache, Path(module).resolve(), package, Path(target).resolve())
            case _:
                print(__doc__, file=sys.stderr)
                return EXIT_USAGE
    except LaunchError as error:
        say(str(error))
        return EXIT_FAILED
    except KeyboardInterrupt:
        say("interrupted; run the command again to continue")
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
