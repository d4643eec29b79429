"""An answer of Ollama that is a failure → our ServiceError. No I/O. One table; causes as of Ollama 0.32.15.

Ollama's own words are matched and never passed on: they may hold a prompt, a path or an address.
"""

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from eudai_server.errors import ModelNotFoundError, Reason, ServiceError

# Another try may find the queue shorter; Ollama does not say when.
BUSY_RETRY_AFTER_S = 1.0

Make = Callable[[str, dict[str, Any], re.Match[str]], ServiceError]


def _too_long(_model: str, nested: dict[str, Any], match: re.Match[str]) -> ServiceError:
    counts = {"input_tokens": nested.get("n_prompt_tokens"), "context_length": nested.get("n_ctx")}
    if match.lastindex:
        counts = {"input_tokens": match[1], "context_length": match[2]}
    known = {name: str(count) for name, count in counts.items() if count is not None}
    numbers = (
        f" ({known['input_tokens']} tokens, and {known['context_length']} fit)"
        if len(known) == len(counts)
        else ""
    )
    return ServiceError(
        Reason.CONTEXT_LENGTH_EXCEEDED,
        f"the input does not fit the model's context window{numbers}; shorten it",
        metadata=known,
    )


def _unsupported(model: str, _nested: dict[str, Any], match: re.Match[str]) -> ServiceError:
    capability = _CAPABILITIES.get(match[1], match[1])
    return ServiceError(
        Reason.CAPABILITY_UNSUPPORTED,
        f"model {model!r} cannot do that: it lacks the capability {capability!r}",
        metadata={"model": model, "capability": capability},
    )


def _without_embeddings(model: str, *_: object) -> ServiceError:
    return ServiceError(
        Reason.CAPABILITY_UNSUPPORTED,
        f"model {model!r} does not embed",
        metadata={"model": model, "capability": "embedding"},
    )


def _without_media(model: str, _nested: dict[str, Any], match: re.Match[str]) -> ServiceError:
    capability = "audio" if match[1] == "audio" else "vision"
    return ServiceError(
        Reason.CAPABILITY_UNSUPPORTED,
        f"model {model!r} does not take such media",
        metadata={"model": model, "capability": capability},
    )


def _without_effort(model: str, *_: object) -> ServiceError:
    return ServiceError(
        Reason.CAPABILITY_UNSUPPORTED,
        f"model {model!r} does not know this reasoning effort",
        metadata={"model": model, "capability": "thinking"},
    )


def _plain(reason: Reason, message: str, retry_after_s: float | None = None) -> Make:
    return lambda _model, _nested, _match: ServiceError(
        reason, message, retry_after_s=retry_after_s
    )


# Ollama's verbs for what `eudai.v1.Capability` calls otherwise.
_CAPABILITIES = {"generate": "completion", "chat": "completion"}

_TOO_LONG = r"exceed_context_size|exceeds? (?:the |maximum )?(?:available )?context|input length exceeds|prompt (?:is )?too long"
_NO_MEMORY = r"requires more (?:system )?memory|out of memory|insufficient memory|unable to allocate|failed to allocate"
_NO_GRAMMAR = r"(?:parse|load|initialize|parsing) grammar|invalid (?:json schema|format|grammar)|schema conversion"
_PROCESS_ENDED = r"unexpectedly stopped|process has terminated|process no longer running"

# First match decides.
_TEXTS: tuple[tuple[re.Pattern[str], Make], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), make)
    for pattern, make in (
        (
            r"request \((\d+) tokens\) exceeds the available context size \((\d+) tokens\)",
            _too_long,
        ),
        (_TOO_LONG, _too_long),
        (r"does not support embeddings", _without_embeddings),
        (r"(image|audio)? ?input is not supported", _without_media),
        (
            r"does not support (generate|chat|insert|tools|thinking|vision|completion|embeddings?)\b",
            _unsupported,
        ),
        (
            r"think value .* is not supported",
            _without_effort,
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
            _plain(Reason.CLOUD_DISABLED, "the model runs in Ollama's cloud, which is off here"),
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
                "Ollama cannot hold the model to this format; use a simpler schema",
            ),
        ),
        (
            _PROCESS_ENDED,
            _plain(Reason.BACKEND_FAILURE, "the model's process ended; Ollama's log says why"),
        ),
    )
)


_REGISTRY_DENIED = r"unauthorized|access denied|denied: |not authorized|forbidden|you are not"
_REGISTRY_FAILED = (
    r"dial tcp|no such host|connection (?:refused|reset)|i/o timeout|tls|x509|EOF"
    r"|max retries|registry|status code 5|insecure protocol"
)

# What a pull, a push or a creation says beside the rest.
_TRANSFER_TEXTS: tuple[tuple[re.Pattern[str], Make], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), make)
    for pattern, make in (
        (
            r"blobs.sha256-([0-9a-f]{64}).*no such file",
            lambda _model, _nested, match: _no_blob(match[1]),
        ),
        (r"no such file or directory", lambda model, *_: ModelNotFoundError(model)),
        (
            _REGISTRY_DENIED,
            _plain(Reason.REGISTRY_DENIED, "the model registry refuses this server's access"),
        ),
        (
            _REGISTRY_FAILED,
            _plain(Reason.REGISTRY_FAILURE, "the model registry failed or cannot be reached"),
        ),
        (r"quantiz", _plain(Reason.BACKEND_FAILURE, "Ollama cannot quantize the model so")),
    )
)


def _no_blob(digest: str) -> ServiceError:
    name = f"sha256:{digest}"
    return ServiceError(
        Reason.BLOB_NOT_FOUND, f"file {name} was not uploaded before", metadata={"digest": name}
    )


def error_from_response(status: int, body: bytes, model: str) -> ServiceError:
    """The failure that an HTTP answer other than 200 means. `model` as the caller wrote it."""
    text = _error_text(body)
    if text is None and status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        # Ollama's own 404 is JSON; a plain one means that the route is not there.
        return ServiceError(
            Reason.BACKEND_UNSUPPORTED, "this version of Ollama lacks the route; use a newer one"
        )
    if text is not None:
        known = _known_error(text, model)
        if known:
            return known
    if status == HTTPStatus.NOT_FOUND:
        return ModelNotFoundError(model)
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return ServiceError(Reason.QUEUE_FULL, "Ollama is busy", retry_after_s=BUSY_RETRY_AFTER_S)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return ServiceError(
            Reason.CLOUD_DISABLED, "Ollama refuses this model; use one that runs locally"
        )
    return ServiceError(
        Reason.BACKEND_FAILURE, f"Ollama failed with HTTP status {status}; its log says why"
    )


def error_from_line(error: bytes, model: str) -> ServiceError:
    """The failure that an `error` value means, which came in a line after HTTP status 200. Never one to be tried again."""
    known = _known_error(_text_of(error), model)
    if known:
        known.retry_after_s = None
        return known
    return ServiceError(
        Reason.BACKEND_FAILURE, "Ollama failed while it generated; its log says why"
    )


def error_from_transfer(error: bytes, model: str) -> ServiceError:
    """The failure that an `error` value means in the stream of a pull, a push or a creation."""
    known = _known_error(_text_of(error), model, (*_TEXTS, *_TRANSFER_TEXTS))
    return known or ServiceError(Reason.BACKEND_FAILURE, "Ollama failed; its log says why")


def _known_error(
    text: str, model: str, texts: Sequence[tuple[re.Pattern[str], Make]] = _TEXTS
) -> ServiceError | None:
    nested = _nested(text)
    for pattern, make in texts:
        match = pattern.search(text)
        if match:
            return make(model, nested, match)
    return None


def _error_text(body: bytes) -> str | None:
    """The text of `{"error": …}`; None where the body is no such thing."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(answer, dict) or "error" not in answer:
        return None
    return _text_of(msgspec.json.encode(answer["error"]))


def _text_of(error: bytes) -> str:
    """The string that a JSON value is, or its JSON where it is an object."""
    try:
        value = msgspec.json.decode(error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return value if isinstance(value, str) else error.decode(errors="replace")


def _nested(text: str) -> dict[str, Any]:
    """The model runner's own error object, which Ollama passes on as a string."""
    try:
        inner = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError):
        return {}
    error = inner.get("error", inner) if isinstance(inner, dict) else {}
    return error if isinstance(error, dict) else {}
