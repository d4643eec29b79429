"""Converts Ollama's failures to ServiceErrors. No I/O."""

from http import HTTPStatus

import msgspec

from eudai_server.core.errors import CloudDisabledError, ModelNotFoundError, Reason, ServiceError
from eudai_server.ollama.wire.error_texts import BUSY_RETRY_AFTER_S, known_error, malformed_call

_GENERATING_ROUTES = ("/api/chat", "/api/generate")


def error_from_response(status: int, body: bytes, model: str, route: str = "") -> ServiceError:
    """The failure of an HTTP answer other than 200. `model` is the name as Ollama lists it."""
    text = _error_text(body)
    if text is None and status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        # Ollama's own 404 is JSON; any other means that the route does not exist.
        return ServiceError(
            Reason.BACKEND_UNSUPPORTED,
            "this version of Ollama does not have the route; upgrade Ollama",
        )
    if text is not None:
        # Ollama answers a malformed tool call like this if it has sent nothing before.
        generates = route in _GENERATING_ROUTES and status == HTTPStatus.INTERNAL_SERVER_ERROR
        known = (malformed_call(text) if generates else None) or known_error(text, model)
        if known:
            return known
    if status == HTTPStatus.NOT_FOUND:
        return ModelNotFoundError(model)
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return ServiceError(Reason.QUEUE_FULL, "Ollama is busy", retry_after_s=BUSY_RETRY_AFTER_S)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        # Ollama explains it if its cloud is the reason.
        return CloudDisabledError(model) if text is not None else _denied()
    return ServiceError(
        Reason.BACKEND_FAILURE, f"Ollama failed with HTTP status {status}; see Ollama's log"
    )


def _denied() -> ServiceError:
    return ServiceError(
        Reason.BACKEND_FAILURE,
        "Ollama, or a proxy in front of it, denied access to this server; check its host name in "
        "OLLAMA_BASE_URL and the token in OLLAMA_TOKEN_FILE",
    )


def error_from_line(error: bytes, model: str) -> ServiceError:
    """The failure of an `error` in a line after HTTP status 200. It is never to be retried."""
    text = _text_from(error)
    known = malformed_call(text) or known_error(text, model)
    if known:
        known.retry_after_s = None
        return known
    return ServiceError(
        Reason.BACKEND_FAILURE, "Ollama failed while it generated; see Ollama's log"
    )


def error_from_transfer(error: bytes, model: str) -> ServiceError:
    """The failure of an `error` in the stream of a pull, a push or a creation."""
    known = known_error(_text_from(error), model, in_transfer=True)
    return known or ServiceError(Reason.BACKEND_FAILURE, "Ollama failed; see Ollama's log")


def _error_text(body: bytes) -> str | None:
    """The text of `{"error": …}`; None if the body is not of this form."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(answer, dict) or "error" not in answer:
        return None
    return _text_from(msgspec.json.encode(answer["error"]))


def _text_from(error: bytes) -> str:
    """The text of a JSON value: a string as it is, an object as JSON."""
    try:
        value = msgspec.json.decode(error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return value if isinstance(value, str) else error.decode(errors="replace")
