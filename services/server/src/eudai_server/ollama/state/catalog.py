"""Keeps what /api/tags and /api/ps report: the models, and which are in memory. No I/O."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from eudai_server.core.errors import CloudDisabledError, ModelNotFoundError, Reason, ServiceError
from eudai_server.core.model_name import ModelName, is_reachable
from eudai_server.ollama.wire.models import ListedModel, ShownModel


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a model; unknown fields are empty or zero."""

    name: str
    digest: str = ""
    capabilities: frozenset[str] = frozenset()
    context_length: int = 0
    # Whether the model's own parameters fix the seed; also True if that is unknown.
    has_seed: bool = True


class Catalog:
    """The last reports, by name in lower case, because Ollama's names ignore case."""

    def __init__(self) -> None:
        """Start empty, until the first update."""
        self.version = ""
        # Whether this Ollama may send prompts to its cloud; None if unknown.
        self.cloud_enabled: bool | None = None
        self._present: dict[str, ListedModel] = {}
        self._resident: Sequence[ListedModel] = ()
        # By the model's digest.
        self._shown: dict[str, ShownModel] = {}
        # By name in lower case, since the last change of the reports.
        self._facts: dict[str, Facts] = {}
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every update. It must not block or raise."""
        self._listeners.append(listener)

    def update(
        self, present: Sequence[ListedModel], resident: Sequence[ListedModel] | None
    ) -> None:
        """Replace the reports of /api/tags and /api/ps.

        Without `resident`, the models in memory are assumed unchanged.
        """
        self._present = {listed.name.lower(): listed for listed in present}
        if resident is not None:
            self._resident = resident
        kept = {listed.digest for listed in (*present, *self._resident)}
        self._shown = {digest: shown for digest, shown in self._shown.items() if digest in kept}
        self._facts.clear()
        for listener in self._listeners:
            listener()

    @property
    def names(self) -> frozenset[str]:
        """All models that run on this Ollama and that a reference can name."""
        return frozenset(
            name
            for name, listed in self._present.items()
            if not listed.remote and is_reachable(name)
        )

    def require_model(self, model: ModelName) -> Facts:
        """What is known about a model that is to receive a prompt.

        Raises ModelNotFoundError if the last update did not list it, and CloudDisabledError if
        Ollama would run it in its cloud.
        """
        self._check_local(model)
        if not self.has(model):
            raise ModelNotFoundError(model.listed)
        return self.facts(model)

    def resident_digest(self, model: ModelName) -> str | None:
        """The digest of the model's copy in memory; None if that is absent or another model."""
        key = model.key
        present, resident = self._present.get(key), self._resident_of(key)
        if resident is None or (present and present.digest != resident.digest):
            return None
        return resident.digest

    @property
    def bytes_on_gpu(self) -> dict[str, int]:
        """The bytes on the GPU of every model in memory, by digest."""
        return {listed.digest: listed.size_vram for listed in self._resident}

    def has(self, model: ModelName) -> bool:
        """Whether Ollama has the model, according to the last update."""
        return model.key in self._present

    def runner_of(self, model: ModelName) -> str:
        """A key that all models served by one runner share.

        Ollama has one runner per file of weights. The model's digest is used until that file is
        known.
        """
        listed = self._present.get(model.key)
        return self._runner(listed.digest) if listed else model.key

    def is_shown(self, model: ModelName) -> bool:
        """Whether `record_shown` was called for the current version of the model."""
        listed = self._present.get(model.key)
        return listed is not None and listed.digest in self._shown

    def record_shown(self, model: ModelName, shown: ShownModel) -> None:
        """Record the description of a model."""
        listed = self._present.get(model.key)
        if listed:
            self._shown[listed.digest] = shown
            self._facts.clear()

    def is_resident(self, model: ModelName) -> bool:
        """Whether the runner that serves the model is in memory.

        If a model is replaced by another one with the same weights, Ollama still lists the old
        digest, and its runner serves the new model too.
        """
        return self.runner_of(model) in self.resident_runners

    @property
    def resident_runners(self) -> frozenset[str]:
        """The runners in memory."""
        digests = (listed.digest for listed in self._resident)
        return frozenset(map(self._runner, digests))

    def names_on(self, runners: Collection[str]) -> frozenset[str]:
        """The names of the models that these runners serve."""
        return frozenset(
            name for name, listed in self._present.items() if self._runner(listed.digest) in runners
        )

    def names_of(self, digests: Collection[str]) -> frozenset[str]:
        """The names of the models with these digests."""
        return frozenset(name for name, listed in self._present.items() if listed.digest in digests)

    def facts(self, model: ModelName) -> Facts:
        """What is known about a model, whether or not it is in memory."""
        facts = self._facts.get(model.key)
        if facts is None:
            facts = self._make_facts(model)
            if facts.digest:  # so that names which nobody has are not kept
                self._facts[model.key] = facts
        return facts

    def _make_facts(self, model: ModelName) -> Facts:
        key = model.key
        present, resident = self._present.get(key), self._resident_of(key)
        known = present or resident
        if known is None:
            return Facts(model.listed)
        return Facts(
            name=known.name,
            digest=f"sha256:{known.digest}" if known.digest else "",
            capabilities=frozenset(present.capabilities or () if present else ()),
            context_length=resident.context_length if resident else 0,
            has_seed=self._shown.get(known.digest, ShownModel()).has_seed,
        )

    def _runner(self, digest: str) -> str:
        """The file of weights, which identifies a runner, or the model's digest."""
        return self._shown.get(digest, ShownModel()).weights or digest

    def _check_local(self, model: ModelName) -> None:
        listed = self._present.get(model.key)
        if listed and listed.remote:
            raise CloudDisabledError(model.listed)

    def _resident_of(self, key: str) -> ListedModel | None:
        """The copy in memory, or one of the same name whose model has been replaced since.

        Ollama lists each with the name and the digest that it was loaded with. The new model may
        have the same weights.
        """
        present = self._present.get(key)
        same = (listed for listed in self._resident if present and listed.digest == present.digest)
        named = (listed for listed in self._resident if listed.name.lower() == key)
        return next(same, None) or next(named, None)

    def check_digest(self, model: ModelName, expected: str) -> None:
        """Raise DIGEST_MISMATCH if the model's digest is known and is not `expected`.

        An empty `expected` matches any digest. Raises CloudDisabledError for a remote model, which
        never matches.
        """
        self._check_local(model)
        actual = self.facts(model).digest
        if expected and actual and actual != expected:
            metadata = {"expected": expected, "actual": actual}
            raise ServiceError(
                Reason.DIGEST_MISMATCH,
                f"model {model.listed!r} does not have the expected digest",
                metadata=metadata,
            )
