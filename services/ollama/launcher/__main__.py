"""Starts, stops or lends a local Ollama, and builds and runs pinned Go programs.

    python3 services/ollama/launcher start            start an Ollama at OLLAMA_BASE_URL
    python3 services/ollama/launcher stop             stop the one that `start` started
    python3 services/ollama/launcher run -- COMMAND   run a command with an Ollama, then stop it
    python3 services/ollama/launcher build MODULE PACKAGE TARGET   build another pinned Go program
    python3 services/ollama/launcher go MODULE ARGUMENT…   run a Go command in a module's folder

`start` and `run` also create the models. They use an Ollama that already answers at
OLLAMA_BASE_URL, and then do not stop it. The launcher needs only Python 3.11, because it runs
before anything is installed.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from cache import Cache
from go import build, run_go
from install import obtain
from models import ensure_models
from process import DEFAULT_BASE_URL, Process, answers
from progress import LaunchError, say

EXIT_FAILED = 1
EXIT_USAGE = 64


def start(cache: Cache, base_url: str) -> bool:
    """Start an Ollama unless one answers; returns whether it was started."""
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
    """Run a command with an Ollama; returns its exit code.

    A signal to this process ends the command, then the Ollama.
    """
    started = False
    try:
        started = start(cache, base_url)
        child = subprocess.Popen(command, env={**os.environ, "OLLAMA_BASE_URL": base_url})
        signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
        # A terminal sends Ctrl-C to the command too, which decides when to end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return child.wait()
    finally:
        if started:
            Process(cache, base_url).stop()


def main(arguments: list[str]) -> int:
    """Run a subcommand; returns the exit code.

    The command's own for `run`, otherwise 1 for an error and 64 for wrong usage.
    """
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
            case ["go", module, *command] if command:
                return run_go(Cache.from_env(), Path(module).resolve(), command)
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
