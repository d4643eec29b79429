"""A model reference as a caller wrote it goes in; the name Ollama lists it by, or what is wrong with it, comes out.

The grammar is Ollama's own (`types/model/name.go`): [[host/]namespace/]model[:tag].
"""

import re

REFERENCE_CHARS_MAX = 512
DEFAULT_PREFIX = "registry.ollama.ai/library/"
DEFAULT_HOST = "registry.ollama.ai/"
DEFAULT_TAG = "latest"

_GRAMMAR = re.compile(
    r"""(?:(?:https?://)?(?P<host>[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349})/(?=[^/]+/))?
        (?:(?P<namespace>[A-Za-z0-9_][A-Za-z0-9_-]{0,79})/)?
        (?P<model>[A-Za-z0-9_][A-Za-z0-9_.-]{0,79})
        (?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}))?""",
    re.VERBOSE | re.ASCII,
)


def violation_of(reference: str) -> str | None:
    """What is wrong with a reference; None if it follows the grammar."""
    if not reference:
        return 'is required: a model reference such as "llama3.2:1b"'
    if len(reference) > REFERENCE_CHARS_MAX:
        return f"must not be longer than {REFERENCE_CHARS_MAX} characters"
    if not _GRAMMAR.fullmatch(reference):
        return 'is no model reference; write [[host/]namespace/]model[:tag], for example "llama3.2:1b" or "hf.co/org/repo:Q4_K_M"'
    return None


def listed_name(reference: str) -> str:
    """The name under which Ollama's lists show that model: the shortest, with its tag."""
    name = re.sub(r"^https?://", "", reference)
    if name.rfind(":") <= name.rfind("/"):
        name = f"{name}:{DEFAULT_TAG}"
    for prefix in (DEFAULT_PREFIX, "library/", DEFAULT_HOST):
        if name.lower().startswith(prefix):
            return name[len(prefix) :]
    return name


def key_of(reference: str) -> str:
    """What two references to one model have in common: Ollama's names ignore case."""
    return listed_name(reference).lower()


def registry_of(reference: str) -> str:
    """The host that a model is pulled from or pushed to, in lower case."""
    match = _GRAMMAR.fullmatch(reference)
    return ((match and match["host"]) or DEFAULT_HOST.rstrip("/")).lower()
