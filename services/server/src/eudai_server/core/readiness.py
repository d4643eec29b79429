"""Whether the server, and each model, can serve calls: the probe's findings and the drain state.

Both edges use it, so neither has to import the other.
"""

from collections.abc import Callable


class Readiness:
    """Whether the backend answers, which models it has, and whether the server is draining."""

    def __init__(self) -> None:
        """Start as not ready."""
        self.backend_up = False
        self.draining = False
        self.models: frozenset[str] = frozenset()
        # The models that have lost the GPU although they are expected on it.
        self.gpu_lost: frozenset[str] = frozenset()
        # The models that hang, and whether these are all models in the backend's memory.
        self.hanging: frozenset[str] = frozenset()
        self.everything_hangs = False
        self._listeners: list[Callable[[], None]] = []

    def update(self, *, backend_up: bool, models: frozenset[str]) -> None:
        """Record a probe's result. `models` are names as the backend lists them, in lower case."""
        if (backend_up, models) != (self.backend_up, self.models):
            self.backend_up, self.models = backend_up, models
            self._notify()

    def lose_gpu(self, models: frozenset[str]) -> None:
        """Set the models that have lost the GPU; replaces the earlier set."""
        if models != self.gpu_lost:
            self.gpu_lost = models
            self._notify()

    def hang(self, models: frozenset[str], *, everything: bool) -> None:
        """Set the models that hang; `everything` if no other model is in the backend's memory."""
        if (models, everything) != (self.hanging, self.everything_hangs):
            self.hanging, self.everything_hangs = models, everything
            self._notify()

    def drain(self) -> None:
        """Mark the server as shutting down, permanently."""
        self.draining = True
        self._notify()

    @property
    def serving(self) -> bool:
        """Whether calls can be served, ignoring a drain."""
        hindered = self.gpu_lost or self.everything_hangs
        return self.backend_up and bool(self.models) and not hindered

    def serves(self, key: str) -> bool:
        """Whether calls for one model can be served, ignoring a drain.

        `key`: its name in lower case.
        """
        return key in self.models - self.gpu_lost - self.hanging

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change. It must not block or raise."""
        self._listeners.append(listener)

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()
