"""Bodies of /api/tags and /api/ps → what Ollama has, and what is in its memory. No I/O."""

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from eudai_server.errors import Reason, ServiceError
from eudai_server.reference import key_of, listed_name


class _WireModel(msgspec.Struct):
    name: str = ""
    digest: str = ""
    context_length: int = 0
    capabilities: list[str] | None = None
    size_vram: int = 0


class _WireList(msgspec.Struct):
    models: list[_WireModel] | None = None


class _WireVersion(msgspec.Struct):
    version: str = ""


_decoder = msgspec.json.Decoder(_WireList)
_version_decoder = msgspec.json.Decoder(_WireVersion)


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
        self._present: dict[str, _WireModel] = {}
        self._resident: list[_WireModel] = []

    def refresh(self, tags: bytes, ps: bytes) -> None:
        """Take the two bodies in. Raises ServiceError where they are none of Ollama's."""
        try:
            present, resident = _decoder.decode(tags).models, _decoder.decode(ps).models
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServiceError(
                Reason.BACKEND_FAILURE, "what answers at OLLAMA_BASE_URL is not Ollama"
            ) from error
        self._present = {model.name.lower(): model for model in present or ()}
        self._resident = resident or []

    def take_version(self, body: bytes) -> None:
        """The body of /api/version; what is none of Ollama's leaves it unknown."""
        try:
            self.version = _version_decoder.decode(body).version
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.version = ""

    @property
    def names(self) -> frozenset[str]:
        """Every model present."""
        return frozenset(self._present)

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
        """Raise DIGEST_MISMATCH where another digest than the expected one is known; an empty one expects nothing."""
        actual = self.facts(model).digest
        if expected and actual and actual != expected:
            metadata = {"expected": expected, "actual": actual}
            raise ServiceError(
                Reason.DIGEST_MISMATCH,
                f"model {model!r} is not the one expected",
                metadata=metadata,
            )
