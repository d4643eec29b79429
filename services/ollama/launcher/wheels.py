"""Installs a requirements file with hashes into its own virtual environment."""

import hashlib
import os
import sys
from pathlib import Path

from cache import Cache
from progress import LaunchError, require_disk, run_step

HERE = Path(__file__).resolve().parent
WHEELS_BYTES = 1 << 30


def install_wheels(cache: Cache, folder: Path, requirements: Path, label: str) -> Path:
    """Install into `folder` unless it is up to date; returns its Python.

    The stamp is written last, so an interrupted install is repeated; pip's cache saves the
    downloads.
    """
    stamp = folder / "requirements.sha256"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    python = folder / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    require_disk(cache.root, WHEELS_BYTES, label)
    env = dict(os.environ)
    log = cache.log(f"wheels-{folder.name}")
    try:
        run_step(
            f"{label}: virtual environment",
            [sys.executable, "-m", "venv", "--clear", folder],
            log,
            cwd=HERE,
            env=env,
        )
    except LaunchError as error:
        raise LaunchError(
            f"{error}\nPython's venv module may be missing; on Debian: apt-get install python3-venv"
        ) from error
    pip: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "-r",
        requirements,
    ]
    try:
        run_step(f"{label}: download and check", pip, log, cwd=HERE, env=env)
    except LaunchError as error:
        raise LaunchError(
            f"{error}\nIf there is no wheel for this platform or Python version, start Ollama "
            "yourself and set OLLAMA_BASE_URL"
        ) from error
    stamp.write_text(wanted)
    return python


def site_packages(python: Path) -> Path:
    """The folder of that Python's packages.

    They are read as files and never imported, because their dependencies are not installed.
    """
    return next((python.parent.parent / "lib").glob("python3*/site-packages"))
