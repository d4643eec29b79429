"""Bodies of /api/tags and /api/ps → what Ollama has, and what is in its memory. No I/O."""

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from eudai_server.errors import CloudDisabledError, ModelNotFoundError, Reason, ServiceError
from eudai_server.model_name import is_cloud, is_reachable, key_of, listed_name


class _WireModel(msgspec.Struct):
    name: str = ""
    digest: str = ""
    context_length: int = 0
    capabilities: list[str] | None = None
    size_vram: int = 0
    remote_host: str = ""
    remote_model: str = ""

    @property
    def remote(self) -> bool:
        """Whether Ollama would run it in its cloud."""
        return bool(self.remote_host or self.remote_model)


class _WireList(msgspec.Struct):
    models: list[_WireModel] | None = None


class _WireVersion(msgspec.Struct):
    version: str = ""


class _WireCloud(msgspec.Struct):
    disabled: bool | None = None


class _WireStatus(msgspec.Struct):
    cloud: _WireCloud = msgspec.field(default_factory=_WireCloud)


_decoder = msgspec.json.Decoder(_WireList)
_version_decoder = msgspec.json.Decoder(_WireVersion)
_status_decoder = msgspec.json.Decoder(_WireStatus)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model; empty or zero where it is not."""

    name: str
    digest: str = ""
    capabilities: frozenset[str] = frozenset()
    context_length: int = 0


class Catalog:
    """The last answers, by name in lower case: Ollama's names ignore case."""

    def __init__(self) -> None:
        """Empty until the first refresh."""
        self.version = ""
        # Whether this Ollama may send prompts to its cloud; None where it does not say.
        self.cloud_enabled: bool | None = None
        self._present: dict[str, _WireModel] = {}
        self._resident: list[_WireModel] = []
        # By digest: what tells the runner of a model from others.
        self._runners: dict[str, str] = {}

    def refresh(self, tags: bytes, ps: bytes | None) -> None:
        """Take the two bodies in; without `ps`, what was in memory counts as being there still.

        Raises ServiceError where they are not Ollama's.
        """
        try:
            present = _decoder.decode(tags).models
            resident = _decoder.decode(ps).models if ps is not None else None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServiceError(
                Reason.BACKEND_FAILURE, "the server at OLLAMA_BASE_URL is not Ollama"
            ) from error
        self._present = {model.name.lower(): model for model in present or ()}
        if ps is not None:
            self._resident = resident or []
        kept = {wire.digest for wire in (*self._present.values(), *self._resident)}
        self._runners = {
            digest: runner for digest, runner in self._runners.items() if digest in kept
        }

    def take_version(self, body: bytes) -> None:
        """The body of /api/version; what is none of Ollama's leaves it unknown."""
        try:
            self.version = _version_decoder.decode(body).version
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.version = ""

    def take_status(self, body: bytes) -> None:
        """The body of /api/status. Where it does not tell, it is unknown whether the cloud is enabled."""
        try:
            disabled = _status_decoder.decode(body).cloud.disabled
        except (msgspec.DecodeError, UnicodeDecodeError):
            disabled = None
        self.cloud_enabled = None if disabled is None else not disabled

    @property
    def names(self) -> frozenset[str]:
        """Every model that runs on this Ollama and that a reference can name."""
        return frozenset(
            name for name, wire in self._present.items() if not wire.remote and is_reachable(name)
        )

    def require(self, model: str) -> Facts:
        """What is known of a model that is to get a prompt.

        Raises ModelNotFoundError where the last refresh did not show it, and CloudDisabledError
        where Ollama would run it in its cloud.
        """
        self._check_local(model)
        if not self.has(model):
            raise ModelNotFoundError(model)
        return self.facts(model)

    def resident_digest(self, model: str) -> str | None:
        """The digest of the copy in memory; None where it is not in memory, or another one is."""
        key = key_of(model)
        present, resident = self._present.get(key), self._resident_of(key)
        if resident is None or (present and present.digest != resident.digest):
            return None
        return resident.digest

    @property
    def bytes_on_gpu(self) -> dict[str, int]:
        """Of every model in memory, by digest."""
        return {wire.digest: wire.size_vram for wire in self._resident}

    def has(self, model: str) -> bool:
        """Whether Ollama has the model, as far as the last refresh tells."""
        return key_of(model) in self._present

    def runner_of(self, model: str) -> str:
        """What the models that share one runner have in common.

        Ollama has one runner for each file of weights. Until that file is known, a digest stands for it.
        """
        wire = self._present.get(key_of(model))
        return self._runners.get(wire.digest, wire.digest) if wire else key_of(model)

    def knows_runner(self, model: str) -> bool:
        """Whether `learn_runner` was called for the model as it is now."""
        wire = self._present.get(key_of(model))
        return wire is not None and wire.digest in self._runners

    def learn_runner(self, model: str, weights: str) -> None:
        """Take in which file of weights a model has; empty where that cannot be told."""
        wire = self._present.get(key_of(model))
        if wire:
            self._runners[wire.digest] = weights or wire.digest

    def is_resident(self, model: str) -> bool:
        """Whether the runner that serves the model is in memory.

        Where a model was replaced by another one with the same weights, Ollama goes on listing the
        digest of the old one, and serves the new one too.
        """
        return self.runner_of(model) in self.resident_runners

    @property
    def resident_runners(self) -> frozenset[str]:
        """The runners in memory."""
        digests = (wire.digest for wire in self._resident)
        return frozenset(self._runners.get(digest, digest) for digest in digests)

    def names_on(self, runners: Collection[str]) -> frozenset[str]:
        """The names of the models that these runners serve."""
        return frozenset(
            name
            for name, wire in self._present.items()
            if self._runners.get(wire.digest, wire.digest) in runners
        )

    def names_of(self, digests: Collection[str]) -> frozenset[str]:
        """The names of the models that are these."""
        return frozenset(name for name, wire in self._present.items() if wire.digest in digests)

    def facts(self, model: str) -> Facts:
        """What is known of a model, in memory or not."""
        key = key_of(model)
        present, resident = self._present.get(key), self._resident_of(key)
        known = present or resident
        if known is None:
            return Facts(listed_name(model))
        return Facts(
            name=known.name,
            digest=f"sha256:{known.digest}" if known.digest else "",
            capabilities=frozenset(present.capabilities or () if present else ()),
            context_length=resident.context_length if resident else 0,
        )

    def _check_local(self, model: str) -> None:
        wire = self._present.get(key_of(model))
        if is_cloud(model) or (wire and wire.remote):
            raise CloudDisabledError(model)

    def _resident_of(self, key: str) -> _WireModel | None:
        """The copy in memory, else one of that name whose model has been replaced since.

        Ollama lists each under the name and the digest that it was loaded with. Its weights may be
        the new model's too.
        """
        present = self._present.get(key)
        same = (wire for wire in self._resident if present and wire.digest == present.digest)
        named = (wire for wire in self._resident if wire.name.lower() == key)
        return next(same, None) or next(named, None)

    def check_digest(self, model: str, expected: str) -> None:
        """Raise CloudDisabledError for a remote model, which is never the one that is expected.

        Raise DIGEST_MISMATCH where another digest than the expected one is known; an empty one
        expects nothing.
        """
        self._check_local(model)
        actual = self.facts(model).digest
        if expected and actual and actual != expected:
            metadata = {"expected": expected, "actual": actual}
            raise ServiceError(
                Reason.DIGEST_MISMATCH,
                f"model {model!r} does not have the expected digest",
                metadata=metadata,
            )
