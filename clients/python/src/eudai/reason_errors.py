"""One exception for each gRPC status and each reason of a failure.

Every failed call raises an `EudaiError`. Its class says what went wrong: `ModelNotFoundError` for
the reason MODEL_NOT_FOUND, and so on. The base of that class stands for the gRPC status, so that
`except UnavailableError` catches every failure that may pass.
"""

from eudai.errors import EudaiError


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


class PullNotFoundError(NotFoundError, reason="PULL_NOT_FOUND"):
    """No pull of the model is running."""


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


class PullCancelledError(AbortedError, reason="PULL_CANCELLED"):
    """Another caller cancelled the pull."""


class RepetitionStoppedError(AbortedError, reason="REPETITION_STOPPED"):
    """Ollama ended the answer because the model repeated itself."""


class DeadlineExceededError(EudaiError, code="DEADLINE_EXCEEDED"):
    """The call took longer than its timeout."""


class CallCancelledError(EudaiError, code="CANCELLED"):
    """The call was cancelled: the block of its stream was left, or the server ended it."""


def class_of(reason: str, code: str) -> type[EudaiError]:
    """The exception for a failure. A reason that this client does not know has that of its code."""
    return EudaiError.by_reason.get(reason) or EudaiError.by_code.get(code, EudaiError)
