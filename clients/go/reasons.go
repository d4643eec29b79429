package eudai

// Reason is the cause of a failure: the name of an eudaiv1.ErrorReason without its prefix.
// error.proto documents each one. A newer server may send others.
type Reason string

// The reasons of this version of the contract.
const (
	ReasonInvalidRequest           Reason = "INVALID_REQUEST"
	ReasonContextLengthExceeded    Reason = "CONTEXT_LENGTH_EXCEEDED"
	ReasonModelNotFound            Reason = "MODEL_NOT_FOUND"
	ReasonCapabilityUnsupported    Reason = "CAPABILITY_UNSUPPORTED"
	ReasonDigestMismatch           Reason = "DIGEST_MISMATCH"
	ReasonLoadOptionsForbidden     Reason = "LOAD_OPTIONS_FORBIDDEN"
	ReasonQueueFull                Reason = "QUEUE_FULL"
	ReasonInsufficientMemory       Reason = "INSUFFICIENT_MEMORY"
	ReasonBackendUnreachable       Reason = "BACKEND_UNREACHABLE"
	ReasonBackendStreamInterrupted Reason = "BACKEND_STREAM_INTERRUPTED"
	ReasonBackendFailure           Reason = "BACKEND_FAILURE"
	ReasonBackendStalled           Reason = "BACKEND_STALLED"
	ReasonDraining                 Reason = "DRAINING"
	ReasonUnauthenticated          Reason = "UNAUTHENTICATED"
	ReasonScopeMissing             Reason = "SCOPE_MISSING"
	ReasonAdminDisabled            Reason = "ADMIN_DISABLED"
	ReasonModelForbidden           Reason = "MODEL_FORBIDDEN"
	ReasonBackendUnsupported       Reason = "BACKEND_UNSUPPORTED"
	ReasonInternal                 Reason = "INTERNAL"
	ReasonQuotaExceeded            Reason = "QUOTA_EXCEEDED"
	ReasonDeadlineTooShort         Reason = "DEADLINE_TOO_SHORT"
	ReasonRegistryFailure          Reason = "REGISTRY_FAILURE"
	ReasonCloudDisabled            Reason = "CLOUD_DISABLED"
	ReasonRegistryDenied           Reason = "REGISTRY_DENIED"
	ReasonBlobNotFound             Reason = "BLOB_NOT_FOUND"
	ReasonToolCallMalformed        Reason = "TOOL_CALL_MALFORMED"
	ReasonRepetitionStopped        Reason = "REPETITION_STOPPED"
	ReasonPullNotFound             Reason = "PULL_NOT_FOUND"
	ReasonPullCancelled            Reason = "PULL_CANCELLED"
)
