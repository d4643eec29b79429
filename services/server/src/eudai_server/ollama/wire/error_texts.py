"""Maps the texts of Ollama's errors to ServiceErrors, by one table (Ollama 0.32.15). No I/O.

Ollama's texts are matched but never forwarded: they may contain a prompt, a path or an address.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from eudai_server.core.errors import (
    CloudDisabledError,
    InvalidRequestError,
    ModelNotFoundError,
    Reason,
    ServiceError,
    Violation,
)

# Ollama does not say when its queue will be shorter.
BUSY_RETRY_AFTER_S = 1.0

# Gets the model, the runner's own error object, and the match of the text.
Make = Callable[[str, dict[str, Any], re.Match[str]], ServiceError]


def _too_long(_model: str, runner_error: dict[str, Any], match: re.Match[str]) -> ServiceError:
    counts = {
        "input_tokens": runner_error.get("n_prompt_tokens"),
        "context_length": runner_error.get("n_ctx"),
    }
    if match.lastindex:
        counts = {"input_tokens": match[1], "context_length": match[2]}
    known = {name: str(count) for name, count in counts.items() if count is not None}
    numbers = (
        f" ({known['input_tokens']} tokens; {known['context_length']} fit)"
        if len(known) == len(counts)
        else ""
    )
    return ServiceError(
        Reason.CONTEXT_LENGTH_EXCEEDED,
        f"the input does not fit the model's context window{numbers}; shorten it",
        metadata=known,
    )


def _incapable(model: str, capability: str, what: str) -> ServiceError:
    return ServiceError(
        Reason.CAPABILITY_UNSUPPORTED,
        f"model {model!r} {what}",
        metadata={"model": model, "capability": capability},
    )


def _unsupported(model: str, _error: dict[str, Any], match: re.Match[str]) -> ServiceError:
    capability = _CAPABILITIES.get(match[1], match[1])
    return _incapable(model, capability, f"does not have the required capability {capability!r}")


def _without_media(model: str, _error: dict[str, Any], match: re.Match[str]) -> ServiceError:
    capability = "audio" if match[1] == "audio" else "vision"
    return _incapable(model, capability, "does not accept media of this type")


def _without(capability: str, what: str) -> Make:
    return lambda model, *_: _incapable(model, capability, what)


def _unreadable_media(*_: object) -> ServiceError:
    # Ollama does not say which of the media it was.
    what = "contains an image or audio that Ollama cannot decode; it may be damaged"
    return InvalidRequestError([Violation("conversation", what)])


def _plain(reason: Reason, message: str, retry_after_s: float | None = None) -> Make:
    return lambda _model, _error, _match: ServiceError(reason, message, retry_after_s=retry_after_s)


# Ollama's names for capabilities that `eudai.v1.Capability` names differently.
_CAPABILITIES = {"generate": "completion", "chat": "completion"}
_NEEDED = "generate|chat|insert|tools|thinking|vision|completion|embeddings?"

_TOO_LONG = (
    r"exceed_context_size|exceeds? (?:the |maximum )?(?:available )?context|input length exceeds"
    r"|prompt (?:is )?too long"
)
_NO_MEMORY = (
    r"(?:requires more(?: system)?|out of|insufficient) memory|(?:unable|failed) to allocate"
)
_NO_GRAMMAR = (
    r"(?:parse|load|initialize|parsing) grammar|invalid (?:json schema|format|grammar)"
    r"|schema conversion"
)
_PROCESS_ENDED = r"unexpectedly stopped|process has terminated|process no longer running"

# The first match decides.
_TEXTS: tuple[tuple[re.Pattern[str], Make], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), make)
    for pattern, make in (
        (
            r"request \((\d+) tokens\) exceeds the available context size \((\d+) tokens\)",
            _too_long,
        ),
        (_TOO_LONG, _too_long),
        (r"does not support embeddings", _without("embedding", "does not support embeddings")),
        (r"failed to load image or audio", _unreadable_media),
        (
            r"logprobs is not supported with tools",
            _without(
                "logprobs",
                "does not return log probabilities together with tools; leave out one of the two",
            ),
        ),
        (r"(image|audio)? ?input is not supported|does not support multimodal", _without_media),
        (rf"does not support ({_NEEDED})\b", _unsupported),
        (
            r"think value .* is not supported",
            _without("thinking", "does not support this reasoning effort"),
        ),
        (
            r"model ['\"].*['\"] not found|file does not exist|invalid model name",
            lambda model, *_: ModelNotFoundError(model),
        ),
        (
            r"maximum pending requests exceeded|server busy",
            _plain(Reason.QUEUE_FULL, "Ollama's own queue is full", BUSY_RETRY_AFTER_S),
        ),
        (
            r"cloud is disabled|cannot run this remote model",
            lambda model, *_: CloudDisabledError(model),
        ),
        (
            _NO_MEMORY,
            _plain(
                Reason.INSUFFICIENT_MEMORY,
                "the model does not fit in memory; use a smaller one or a shorter context",
            ),
        ),
        (
            _NO_GRAMMAR,
            _plain(
                Reason.BACKEND_FAILURE,
                "Ollama cannot constrain the model to this format; use a simpler schema",
            ),
        ),
        (
            _PROCESS_ENDED,
            _plain(Reason.BACKEND_FAILURE, "the model's process ended; see Ollama's log"),
        ),
    )
)


_REGISTRY_DENIED = r"unauthorized|access denied|denied: |not authorized|forbidden|you are not"
_REGISTRY_FAILED = (
    r"dial tcp|no such host|connection (?:refused|reset)|i/o timeout|tls|x509|EOF"
    r"|max retries|registry|status code 5|insecure protocol"
)

# Additional failures of a pull, a push or a creation.
_TRANSFER_TEXTS: tuple[tuple[re.Pattern[str], Make], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), make)
    for pattern, make in (
        (
            r"blobs.sha256-([0-9a-f]{64}).*no such file",
            lambda _model, _error, match: blob_not_found(f"sha256:{match[1]}"),
        ),
        (r"no such file or directory", lambda model, *_: ModelNotFoundError(model)),
        (_REGISTRY_DENIED, _plain(Reason.REGISTRY_DENIED, "the model registry denied access")),
        (
            _REGISTRY_FAILED,
            _plain(Reason.REGISTRY_FAILURE, "the model registry failed or is unreachable"),
        ),
        (r"quantiz", _plain(Reason.BACKEND_FAILURE, "Ollama cannot quantize to this type")),
    )
)

# How the parsers of Ollama and llama.cpp report a tool call that they cannot parse. Each pattern
# matches only the start of the text, because the rest may be the model's words.
_MALFORMED_CALL = re.compile(
    r"error parsing tool call|llama-server returned invalid tool call|incomplete GLM tool call"
    r"|failed to parse (?:JSON|XML|Laguna|function call|arguments|value|input at pos)"
    r"|invalid (?:format$|tool call|function call|argument|object entry)|no tool calls? found"
    r"|empty (?:function|argument|Laguna|Glimmer)|tool ['\"].*['\"] (?:is )?not (?:found|declared)"
    r"|mismatched arg_key|required argument .* is missing|unterminated string"
    r"|expected element type|expected ('call:' prefix|'\{' in tool call)|repair failed to produce"
    r"|undeclared Glimmer|parse Glimmer|Glimmer recipient|(?:missing|malformed|unterminated) ATEM"
    # These come from Go's packages for JSON and XML.
    r"|invalid character|unexpected end of JSON|json: cannot unmarshal|XML syntax"
    r"|(?:unexpected )?EOF$",
    re.IGNORECASE | re.DOTALL,
)


def blob_not_found(digest: str) -> ServiceError:
    """The error for a file that Ollama does not have; `digest` is "sha256:…"."""
    return ServiceError(
        Reason.BLOB_NOT_FOUND,
        f"file {digest} has not been uploaded; call UploadBlob first",
        metadata={"digest": digest},
    )


def known_error(text: str, model: str, *, in_transfer: bool = False) -> ServiceError | None:
    """The error that a text stands for; None if the tables do not have it.

    `model` is the name as Ollama lists it. `in_transfer` adds the failures of pulls, pushes and
    creations.
    """
    runner_error = _runner_error(text)
    for pattern, make in (*_TEXTS, *_TRANSFER_TEXTS) if in_transfer else _TEXTS:
        match = pattern.search(text)
        if match:
            return make(model, runner_error, match)
    return None


def malformed_call(text: str) -> ServiceError | None:
    """The error for a tool call that Ollama cannot parse; None if the text says something else."""
    if not _MALFORMED_CALL.match(text):
        return None
    return ServiceError(
        Reason.TOOL_CALL_MALFORMED,
        "the model wrote a tool call that Ollama cannot parse; try another seed, prompt or model, "
        "or simpler tools",
    )


def _runner_error(text: str) -> dict[str, Any]:
    """The model runner's own error object, which Ollama forwards as a string."""
    try:
        inner = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError):
        return {}
    error = inner.get("error", inner) if isinstance(inner, dict) else {}
    return error if isinstance(error, dict) else {}
