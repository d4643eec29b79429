"""The failures of the server, each with what the caller can do about it.

Knows neither gRPC nor HTTP; `rpc/wire/status` maps these failures to status codes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import auto

from eudai_server.core.named_enum import NamedEnum


class Reason(NamedEnum):
    """Machine-readable causes: the names of `eudai.v1.ErrorReason` without their prefix."""

    INVALID_REQUEST = auto()
    CONTEXT_LENGTH_EXCEEDED = auto()
    MODEL_NOT_FOUND = auto()
    CAPABILITY_UNSUPPORTED = auto()
    DIGEST_MISMATCH = auto()
    LOAD_OPTIONS_FORBIDDEN = auto()
    QUEUE_FULL = auto()
    INSUFFICIENT_MEMORY = auto()
    BACKEND_UNREACHABLE = auto()
    BACKEND_STREAM_INTERRUPTED = auto()
    BACKEND_FAILURE = auto()
    BACKEND_STALLED = auto()
    DRAINING = auto()
    UNAUTHENTICATED = auto()
    SCOPE_MISSING = auto()
    ADMIN_DISABLED = auto()
    MODEL_FORBIDDEN = auto()
    BACKEND_UNSUPPORTED = auto()
    INTERNAL = auto()
    QUOTA_EXCEEDED = auto()
    DEADLINE_TOO_SHORT = auto()
    REGISTRY_FAILURE = auto()
    CLOUD_DISABLED = auto()
    REGISTRY_DENIED = auto()
    BLOB_NOT_FOUND = auto()
    TOOL_CALL_MALFORMED = auto()
    REPETITION_STOPPED = auto()
    PULL_NOT_FOUND = auto()
    PULL_CANCELLED = auto()


# The number of violations that a caller gets. One more entry says that there are others.
VIOLATIONS_MAX = 16


@dataclass(frozen=True, slots=True)
class Violation:
    """One invalid field: its path in the request ("sampling.top_p"), and what to change."""

    field: str
    description: str


class ServiceError(Exception):
    """A failure with a reason and a message, which is sent to the caller.

    The message never quotes Ollama.

    `retry_after_s` says when a retry may succeed. A client may retry automatically only if it is
    set and `may_have_run` is not, so that nothing runs twice.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        may_have_run: bool = False,
        violations: Sequence[Violation] = (),
    ) -> None:
        """error.proto documents the `metadata` of each reason; `violations` name invalid fields."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.may_have_run = may_have_run
        self.violations = tuple(violations)


class InvalidRequestError(ServiceError):
    """The request is invalid; lists all violations that were found."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        """Needs at least one violation. More than VIOLATIONS_MAX mean that there may be others."""
        first = violations[0]
        count = len(violations) - 1
        more = f" (and {count} more)" if 0 < count < VIOLATIONS_MAX else " (and more)"
        more = more if count else ""
        super().__init__(
            Reason.INVALID_REQUEST,
            f"{first.field}: {first.description}{more}",
            violations=violations,
        )


class ModelNotFoundError(ServiceError):
    """The model does not exist in Ollama."""

    def __init__(self, model: str) -> None:
        """`model` is the name as Ollama lists it."""
        super().__init__(
            Reason.MODEL_NOT_FOUND,
            f"model {model!r} does not exist in Ollama; pull it first: ollama pull {model}",
        )
        self.model = model


class CloudDisabledError(ServiceError):
    """Ollama would send the request to its cloud, which this server never allows."""

    def __init__(self, model: str) -> None:
        """`model` is the name as the caller wrote it, or as Ollama lists it."""
        super().__init__(
            Reason.CLOUD_DISABLED,
            f"model {model!r} runs in Ollama's cloud, and this server does not send requests "
            "there; use a local model",
            metadata={"model": model},
        )


class UnreachableError(ServiceError):
    """Ollama does not answer, and nothing was sent to it."""

    def __init__(self, retry_after_s: float) -> None:
        """`retry_after_s` is the time until the next probe."""
        super().__init__(
            Reason.BACKEND_UNREACHABLE,
            "Ollama does not answer; check that it is running and that OLLAMA_BASE_URL is correct",
            retry_after_s=retry_after_s,
        )


class NoConnectionLeftError(ServiceError):
    """The server cannot open another connection; Ollama may be healthy. Nothing was sent."""

    def __init__(self) -> None:
        """The caller may retry soon."""
        super().__init__(
            Reason.QUEUE_FULL,
            "the server cannot open another connection to Ollama; retry the call",
            retry_after_s=1.0,
        )
