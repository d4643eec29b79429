"""Parses model references by the rules that Ollama applies.

The grammar is [[host/]namespace/]model[:tag][:local]. `tests/codec/model_names.json` records how a
real Ollama reads many references, and the tests compare this parser with it.
"""

import re
from dataclasses import dataclass
from functools import cached_property

from eudai_server.core.errors import CloudDisabledError

REFERENCE_CHARS_MAX = 512

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

# The characters that Go's strings.TrimSpace removes; str.strip removes more.
_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_SCHEME = re.compile(r"^https?://")
# The suffix by which Ollama decides where the model runs. It is not part of the name.
_SOURCE = re.compile(r":(?:(?P<local>local)|cloud|(?P<tag>[^/:]*)-cloud)", re.IGNORECASE | re.ASCII)

_PARTS = {
    # Ollama's limit is 350, but each part becomes a file name, which is limited to 255.
    "host": re.compile(r"\w[\w.:-]{0,254}", re.ASCII),
    "namespace": re.compile(r"\w[\w-]{0,79}", re.ASCII),
    "model": re.compile(r"\w[\w.-]{0,79}", re.ASCII),
    "tag": re.compile(r"\w[\w.-]{0,79}", re.ASCII),
}


class InvalidModelNameError(ValueError):
    """A text is not a valid model reference; the message says what to change."""


@dataclass(frozen=True)
class ModelName:
    """The parts of a model's name, with defaults filled in, in the caller's case."""

    host: str
    namespace: str
    model: str
    tag: str

    @cached_property
    def listed(self) -> str:
        """The shortest name, as in Ollama's lists. Every route of Ollama reads it as this model."""
        name = f"{self.model}:{self.tag}"
        if self.registry != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{name}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{name}"
        return name

    @cached_property
    def key(self) -> str:
        """Equal for all references to one model: Ollama ignores case."""
        return self.listed.lower()

    @cached_property
    def registry(self) -> str:
        """The host that the model is pulled from and pushed to, in lower case."""
        return self.host.lower()


def model_name_from(reference: str) -> ModelName:
    """Parse a reference as Ollama does.

    Raises InvalidModelNameError, or CloudDisabledError for a model that Ollama would run in its
    cloud.
    """
    if len(reference) > REFERENCE_CHARS_MAX:
        raise InvalidModelNameError(f"must not be longer than {REFERENCE_CHARS_MAX} characters")
    base, source = _without_source(reference)
    if not base:
        raise InvalidModelNameError('is required: a model reference such as "llama3.2:1b"')
    if source and _without_source(base)[1]:
        raise InvalidModelNameError("must not end in more than one of :local, :cloud and -cloud")
    if "@" in base:
        raise InvalidModelNameError(
            "must not contain a digest, because Ollama selects models by name only; "
            "leave out what begins with @, and use expected_digest where the request has it"
        )
    name = _split(base)
    for part, pattern in _PARTS.items():
        if not pattern.fullmatch(getattr(name, part)):
            raise InvalidModelNameError(
                f"is not a valid model reference: its {part} is invalid; write "
                '[[host/]namespace/]model[:tag], such as "llama3.2:1b" or "hf.co/org/repo:Q4_K_M"'
            )
    if source == "cloud":
        raise CloudDisabledError(reference.strip())
    return name


def violation_of(reference: str) -> str | None:
    """What is wrong with a reference; None if it is valid, including one of a cloud model."""
    try:
        model_name_from(reference)
    except InvalidModelNameError as error:
        return str(error)
    except CloudDisabledError:
        pass
    return None


def key_of(reference: str) -> str:
    """`ModelName.key` of a valid reference. Never raises."""
    base, source = _without_source(reference)
    return _split(base if source == "local" else reference.strip(_SPACE)).key


def is_reachable(listed: str) -> bool:
    """Whether a request can name a listed model; it cannot if Ollama reads its tag as a source."""
    # Runs every second for every model, so it does not use the parser.
    tag = listed.rpartition(":")[2].lower()
    return tag not in ("local", "cloud") and not tag.endswith("-cloud")


def _without_source(reference: str) -> tuple[str, str]:
    """A reference without its source, and the source: "local", "cloud" or ""."""
    text = reference.strip(_SPACE)
    base, colon, end = text.rpartition(":")
    match = _SOURCE.fullmatch(colon + end.strip(_SPACE))
    if not match:
        return text, ""
    if match["tag"] is not None:
        base = f"{base}:{match['tag']}"
    return base, "local" if match["local"] else "cloud"


def _split(text: str) -> ModelName:
    """Split a text into its parts, without validation.

    A colon before the last slash belongs to the host.
    """
    tag = DEFAULT_TAG
    if text.rfind(":") > text.rfind("/"):
        text, _, tag = text.rpartition(":")
    *front, model = text.rsplit("/", 2)
    namespace = front.pop() if front else DEFAULT_NAMESPACE
    host = front.pop() if front else DEFAULT_HOST
    return ModelName(_SCHEME.sub("", host), namespace, model, tag)
