"""The folder that holds everything the launcher installs, builds or stores."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from progress import LaunchError, say


@dataclass(frozen=True)
class Cache:
    """The only folder outside the tree: `EUDAI_CACHE`, or `eudai` in the user's cache folder."""

    root: Path

    @classmethod
    def from_env(cls) -> "Cache":
        """Find the folder and create it. Raises LaunchError if that fails."""
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
        """`bin/ollama` and `lib/ollama/llama-server`: Ollama finds its runner by this layout."""
        return self.root / "ollama"

    @property
    def python(self) -> Path:
        """The virtual environment with the runner and the models."""
        return self.root / "python"

    @property
    def go(self) -> Path:
        """Go's module cache and build cache and, if it came as a wheel, Go itself."""
        return self.root / "go"

    @property
    def state(self) -> Path:
        """The state of a running Ollama: its models, its home, its log and its process id."""
        return self.root / "state"

    def log(self, name: str) -> Path:
        """The log file of a step."""
        return self.root / "log" / f"{name}.log"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Allow one set-up at a time in the folder; a second one waits and says so."""
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say(f"another set-up is using {self.root}; waiting for it to finish")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
