"""The environment goes in; the folders in which everything obtained is kept come out, all under one."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from progress import LaunchError, say


@dataclass(frozen=True)
class Cache:
    """The one folder outside the tree: `EUDAI_CACHE`, else `eudai` in the user's cache folder."""

    root: Path

    @classmethod
    def from_env(cls) -> "Cache":
        """Find the folder and make it."""
        user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        root = (
            Path(os.environ.get("EUDAI_CACHE") or Path(user_cache) / "eudai").expanduser().resolve()
        )
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LaunchError(
                f"cannot create the cache folder {root} ({error.strerror}); set EUDAI_CACHE to a "
                "writable folder"
            ) from error
        return cls(root)

    @property
    def ollama(self) -> Path:
        """Holds `bin/ollama` and `lib/ollama/llama-server`: Ollama finds its runner by this layout alone."""
        return self.root / "ollama"

    @property
    def python(self) -> Path:
        """The virtual environment with the runner and the models."""
        return self.root / "python"

    @property
    def go(self) -> Path:
        """Go's module cache, build cache and, where it came as a wheel, Go itself."""
        return self.root / "go"

    @property
    def state(self) -> Path:
        """What a running Ollama needs: its models, its home, its log and its process id."""
        return self.root / "state"

    def log(self, name: str) -> Path:
        """Where a step's output goes."""
        return self.root / "log" / f"{name}.log"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one set-up at a time; a second one waits and says so."""
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say(f"another set-up is using {self.root}; waiting for it to finish")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
