"""Says who may be served: what the probe learns of the backend, and whether the server drains.

Both edges share it; neither knows the other.
"""

from collections.abc import Callable


class Readiness:
    """Whether the backend answers, which models it has, and whether the server is on its way out."""

    def __init__(self) -> None:
        """Nothing is known yet, so nothing is ready."""
        self.backend_up = False
        self.draining = False
        self.models: frozenset[str] = frozenset()
        # Those of them that have lost the GPU they are expected on.
        self.gpu_lost: frozenset[str] = frozenset()
        # Those of them that the backend does not answer for, and whether that is all it has loaded.
        self.hanging: frozenset[str] = frozenset()
        self.everything_hangs = False
        self._listeners: list[Callable[[], None]] = []

    def update(self, *, backend_up: bool, models: frozenset[str]) -> None:
        """What a probe found. `models` are names as Ollama lists them, in lower case."""
        if (backend_up, models) != (self.backend_up, self.models):
            self.backend_up, self.models = backend_up, models
            self._notify()

    def lose_gpu(self, models: frozenset[str]) -> None:
        """Which models have lost the GPU, all of them."""
        if models != self.gpu_lost:
            self.gpu_lost = models
            self._notify()

    def hang(self, models: frozenset[str], *, everything: bool) -> None:
        """Take in which models hang; `everything` where no other is in the backend's memory."""
        if (models, everything) != (self.hanging, self.everything_hangs):
            self.hanging, self.everything_hangs = models, everything
            self._notify()

    def drain(self) -> None:
        """The server is shutting down; there is no way back."""
        self.draining = True
        self._notify()

    @property
    def serving(self) -> bool:
        """Whether calls can be served, drains aside."""
        hindered = self.gpu_lost or self.everything_hangs
        return self.backend_up and bool(self.models) and not hindered

    def serves(self, key: str) -> bool:
        """Whether calls for one model can be served, drains aside. `key` is its name in lower case."""
        return key in self.models - self.gpu_lost - self.hanging

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change. It must not block or raise."""
        self._listeners.append(listener)

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()
