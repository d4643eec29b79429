"""The exceptions of the client: one class for each gRPC status and each reason of a failure.

Every failed call raises an `EudaiError`. Its class says what went wrong: `ModelNotFoundError` for
the reason MODEL_NOT_FOUND, and so on. The base of that class stands for the gRPC status, so that
`except UnavailableError` catches every failure that may pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from eudai.results import Result
    from eudai.v1.content_pb2 import Message


@dataclass(frozen=True)
class Violation:
    """One invalid field of a request.

    >>> try:
    ...     client.generate_once("gemma3:270m", "hi", temperature=9.0)
    ... except eudai.InvalidRequestError as error:
    ...     print(error.violations[0].field, "|", error.violations[0].description)
    sampling.temperature | must be between 0 and 5
    """

    field: str
    description: str


class EudaiError(Exception):
    """The base of all errors of this package.

    `code` is the name of the gRPC status, such as "NOT_FOUND". `reason` is the name of the
    ErrorReason, such as "MODEL_NOT_FOUND"; it is empty if the failure has none, for example because
    the server could not be reached. `retry_after_s` is the time after which the server advises to
    try again, or None. `violations` are the invalid fields, and `metadata` has further facts, as
    the contract documents for each reason. `partial` is the output that a failed generation had
    sent, or None.

    >>> try:
    ...     client.generate_once("no-such-model", "hi")
    ... except eudai.EudaiError as error:
    ...     print(type(error).__name__, error.code, error.reason)
    ModelNotFoundError NOT_FOUND MODEL_NOT_FOUND
    """

    by_reason: ClassVar[dict[str, type["EudaiError"]]] = {}
    by_code: ClassVar[dict[str, type["EudaiError"]]] = {}

    def __init_subclass__(cls, *, reason: str = "", code: str = "") -> None:
        """Register the class for a reason, for a gRPC status, or for both."""
        if reason:
            EudaiError.by_reason[reason] = cls
        if code:
            EudaiError.by_code[code] = cls

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        retry_after_s: float | None = None,
        violations: Sequence[Violation] = (),
        metadata: Mapping[str, str] | None = None,
        partial: "Result | None" = None,
    ) -> None:
        """`code` and `reason` are empty if the error does not come from a call."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.partial = partial

    @property
    def incident(self) -> str:
        """The id of a defect in the server's log; empty if the failure is not a defect."""
        return self.metadata.get("incident", "")

    def __str__(self) -> str:
        """The message, and a line for each violation that it does not contain."""
        texts = [f"{each.field}: {each.description}" for each in self.violations]
        lines = [f"  {text}" for text in texts if text not in self.message]
        return "\n".join([self.message, *lines])


class ConfigError(EudaiError, ValueError):
    """An argument or a variable of the connection is wrong, such as a file that does not exist.

    >>> eudai.Client("https://example.com")
    Traceback (most recent call last):
    ...
    eudai.errors.ConfigError: address 'https://example.com' is a URL: write host:port
    """


class IncompleteResponseError(EudaiError):
    """The server ended a stream with status OK before its last event."""


class ParseError(EudaiError):
    """The answer cannot be parsed as the requested type.

    `partial` is the whole result.

    >>> try:
    ...     client.parse("gemma3:270m", "not json", Point)
    ... except eudai.ParseError as error:
    ...     print(error.text)
    An answer in words.
    """

    @property
    def text(self) -> str:
        """The answer.

        >>> eudai.ParseError("no JSON", partial=eudai.Result(text="Well, …")).text
        'Well, …'
        """
        return self.partial.text if self.partial else ""


class ToolError(EudaiError):
    """The model called a tool that does not exist, or with arguments that do not fit it."""


class ToolRoundsError(EudaiError):
    """The model still called tools after the last round.

    `messages` has the conversation up to there; the chat itself is unchanged.

    >>> def now() -> str:
    ...     return "12:00"
    >>> try:
    ...     client.chat("gemma3:270m").run("call now", tools=[now], rounds_max=1)
    ... except eudai.ToolRoundsError as error:
    ...     print(len(error.messages))
    3
    """

    def __init__(
        self, message: str, messages: "Sequence[Message]" = (), partial: "Result | None" = None
    ) -> None:
        """`partial` is the result of the last round."""
        super().__init__(message, partial=partial)
        self.messages = list(messages)


class InvalidArgumentError(EudaiError, code="INVALID_ARGUMENT"):
    """The request cannot succeed as it is."""


class InvalidRequestError(InvalidArgumentError, reason="INVALID_REQUEST"):
    """Some fields of the request are invalid: see `violations`."""


class ContextLengthExceededError(InvalidArgumentError, reason="CONTEXT_LENGTH_EXCEEDED"):
    """The input does not fit the context window."""


class NotFoundError(EudaiError, code="NOT_FOUND"):
    """Something that the request names does not exist."""


class ModelNotFoundError(NotFoundError, reason="MODEL_NOT_FOUND"):
    """The model does not exist in Ollama. `Client.pull` fetches it."""


class FailedPreconditionError(EudaiError, code="FAILED_PRECONDITION"):
    """The request is valid, but not in the present state of the server."""


class CapabilityUnsupportedError(FailedPreconditionError, reason="CAPABILITY_UNSUPPORTED"):
    """The model cannot do what the request asks for, such as calling tools."""


class DigestMismatchError(FailedPreconditionError, reason="DIGEST_MISMATCH"):
    """The model does not have the expected digest."""


class CloudDisabledError(FailedPreconditionError, reason="CLOUD_DISABLED"):
    """Ollama would run the model in its cloud, which this server does not allow."""


class BlobNotFoundError(FailedPreconditionError, reason="BLOB_NOT_FOUND"):
    """The request refers to a file that has not been uploaded."""


class PermissionDeniedError(EudaiError, code="PERMISSION_DENIED"):
    """The operator or the credential does not allow the call."""


class LoadOptionsForbiddenError(PermissionDeniedError, reason="LOAD_OPTIONS_FORBIDDEN"):
    """The operator does not allow load options."""


class ScopeMissingError(PermissionDeniedError, reason="SCOPE_MISSING"):
    """The credential lacks a scope."""


class AdminDisabledError(PermissionDeniedError, reason="ADMIN_DISABLED"):
    """The operator does not allow model administration."""


class ModelForbiddenError(PermissionDeniedError, reason="MODEL_FORBIDDEN"):
    """The operator does not allow this model or its registry."""


class RegistryDeniedError(PermissionDeniedError, reason="REGISTRY_DENIED"):
    """The model registry denied access to the server."""


class ResourceExhaustedError(EudaiError, code="RESOURCE_EXHAUSTED"):
    """A limit is reached."""


class QueueFullError(ResourceExhaustedError, reason="QUEUE_FULL"):
    """The queue of the model is full; `retry_after_s` says when to try again."""


class QuotaExceededError(ResourceExhaustedError, reason="QUOTA_EXCEEDED"):
    """The caller has used up its own share; `retry_after_s` says when to try again."""


class InsufficientMemoryError(ResourceExhaustedError, reason="INSUFFICIENT_MEMORY"):
    """The model does not fit in memory."""


class DeadlineTooShortError(ResourceExhaustedError, reason="DEADLINE_TOO_SHORT"):
    """The first output is expected after the timeout of the call."""


class UnavailableError(EudaiError, code="UNAVAILABLE"):
    """The server, Ollama or a model registry cannot be reached now."""


class BackendUnreachableError(UnavailableError, reason="BACKEND_UNREACHABLE"):
    """Ollama does not answer."""


class BackendStreamInterruptedError(UnavailableError, reason="BACKEND_STREAM_INTERRUPTED"):
    """The connection to Ollama broke during the answer."""


class BackendStalledError(UnavailableError, reason="BACKEND_STALLED"):
    """Ollama sent nothing for longer than the operator allows."""


class DrainingError(UnavailableError, reason="DRAINING"):
    """The server is shutting down."""


class RegistryFailureError(UnavailableError, reason="REGISTRY_FAILURE"):
    """The model registry failed or cannot be reached."""


class UnauthenticatedError(EudaiError, code="UNAUTHENTICATED", reason="UNAUTHENTICATED"):
    """The call has no valid credential."""


class UnimplementedError(EudaiError, code="UNIMPLEMENTED"):
    """The server does not have the method."""


class BackendUnsupportedError(UnimplementedError, reason="BACKEND_UNSUPPORTED"):
    """The version of Ollama does not have the required route."""


class InternalError(EudaiError, code="INTERNAL", reason="INTERNAL"):
    """The server has a defect; its log has the details under `incident`."""


class BackendFailureError(InternalError, reason="BACKEND_FAILURE"):
    """Ollama failed, or its answer is malformed."""


class AbortedError(EudaiError, code="ABORTED"):
    """The generation was ended."""


class ToolCallMalformedError(AbortedError, reason="TOOL_CALL_MALFORMED"):
    """The model wrote a tool call that Ollama cannot parse."""


class RepetitionStoppedError(AbortedError, reason="REPETITION_STOPPED"):
    """Ollama ended the answer because the model repeated itself."""


class DeadlineExceededError(EudaiError, code="DEADLINE_EXCEEDED"):
    """The call took longer than its timeout."""


class CallCancelledError(EudaiError, code="CANCELLED"):
    """The call was cancelled: the block of its stream was left, or the server ended it."""
