"""Finds the models that have lost the GPU, from /api/ps and from how fast they generate.

Ollama falls back to the CPU silently, and may still list a model as on the GPU. So both are
checked: the bytes that Ollama reports on the GPU, and whether generation is much slower than
before.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eudai_server.core.events import Finished
from eudai_server.core.model_name import ModelName
from eudai_server.core.readiness import Readiness
from eudai_server.ollama.state.catalog import Catalog

# A CPU generates at about a tenth of a GPU's rate or less. A long context or a hot GPU does not
# slow generation to a fifth.
FLOOR_SHARE = 0.2
SLOW_MAX = 3
# Fewer tokens are too few to measure a rate.
TOKENS_MIN = 16
NANOS = 1e9

log = logging.getLogger(__name__)


class _Pace:
    """How fast one model generates."""

    def __init__(self) -> None:
        self.best = 0.0
        self.slow = 0

    def add(self, tokens_per_s: float) -> None:
        self.best = max(self.best, tokens_per_s)
        self.slow = self.slow + 1 if tokens_per_s < FLOOR_SHARE * self.best else 0


class Gpu:
    """Watches for models that lose the GPU, if the operator expects one."""

    def __init__(self, catalog: Catalog, readiness: Readiness, *, expected: bool) -> None:
        """`expected`: every model in memory should be on the GPU, at least in part.

        Otherwise no model counts as having lost the GPU.
        """
        self._catalog = catalog
        self._readiness = readiness
        self._expected = expected
        self._paces: dict[str, _Pace] = {}
        self._running = 0
        self._begun = 0
        catalog.listen(self.update)

    @contextmanager
    def watching(self, model: ModelName) -> Iterator[Callable[[Finished], None]]:
        """Watch one generation; the result records its rate.

        A rate is meaningful only if no other generation ran at the same time; others are ignored.
        """
        self._begun += 1
        begun, alone = self._begun, self._running == 0
        self._running += 1

        def measure(finished: Finished) -> None:
            if alone and begun == self._begun:
                self._measure(model, finished)

        try:
            yield measure
        finally:
            self._running -= 1

    def _measure(self, model: ModelName, finished: Finished) -> None:
        digest, spent_ns = self._catalog.resident_digest(model), finished.timings.generate_ns
        tokens = finished.usage.output_tokens or 0
        if digest and spent_ns and tokens >= TOKENS_MIN:
            self._paces.setdefault(digest, _Pace()).add(tokens * NANOS / spent_ns)
            self.update()

    def update(self) -> None:
        """Update the set of models that lost the GPU. A model that left memory is forgotten."""
        if not self._expected:
            return
        on_gpu = self._catalog.bytes_on_gpu
        self._paces = {digest: pace for digest, pace in self._paces.items() if digest in on_gpu}
        lost = {digest for digest, count in on_gpu.items() if count == 0}
        lost |= {digest for digest, pace in self._paces.items() if pace.slow >= SLOW_MAX}
        names = self._catalog.names_of(lost)
        if names - self._readiness.gpu_lost:
            log.error("models lost the GPU", extra={"fields": {"models": sorted(names)}})
        self._readiness.lose_gpu(names)
