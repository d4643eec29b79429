package eudai

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const errorDomain = "eudai"

// Error is the failure of a call. Get it with errors.As:
//
//	var failure *eudai.Error
//	if errors.As(err, &failure) && failure.Reason == eudai.ReasonQueueFull {
//		time.Sleep(failure.RetryAfter)
//	}
//
// errors.Is with context.Canceled or context.DeadlineExceeded tells whether the call was cancelled
// or its deadline passed, and status.FromError returns the gRPC status.
type Error struct {
	// Code is the gRPC status code.
	Code codes.Code

	// Reason is the cause. It is empty if gRPC and not the server failed the call, for example
	// because the server cannot be reached.
	Reason Reason

	// Message is the server's text for a developer.
	Message string

	// Metadata has further facts about the reason, such as "context_length". error.proto lists
	// them for each reason.
	Metadata map[string]string

	// Violations are the invalid fields of the request.
	Violations []Violation

	// RetryAfter is when the server advises to repeat the call. Zero means that it has no advice.
	// The client has repeated the call already where the service config and the server allow it.
	RetryAfter time.Duration

	// OutputSent says whether a generation had sent a part of its output before it failed.
	OutputSent bool

	// GenerationID is the id of a generation that failed after it had sent output.
	GenerationID string

	status *status.Status
}

// Violation is one invalid field of a request.
type Violation struct {
	// Field is the path of the field, such as "sampling.temperature". It is empty in the last
	// violation if there may be more.
	Field string
	// Description says what is wrong and what to change.
	Description string
}

// Error returns one line with the code, the reason, the message and the violations.
func (e *Error) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "eudai: %s", e.Code)
	if e.Reason != "" {
		fmt.Fprintf(&text, " (%s)", e.Reason)
	}
	fmt.Fprintf(&text, ": %s", e.Message)
	for _, violation := range e.Violations {
		fmt.Fprintf(&text, "; %s: %s", violation.Field, violation.Description)
	}
	return text.String()
}

// GRPCStatus returns the status with all its details. status.FromError calls it.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// Is tells errors.Is that a cancelled call is a context.Canceled, and an expired deadline a
// context.DeadlineExceeded.
func (e *Error) Is(target error) bool {
	return target == context.Canceled && e.Code == codes.Canceled ||
		target == context.DeadlineExceeded && e.Code == codes.DeadlineExceeded
}

// typed converts the failure of a call to an *Error, and leaves nil and io.EOF unchanged.
func typed(err error) error {
	var known *Error
	if err == nil || err == io.EOF || errors.As(err, &known) {
		return err
	}
	state := status.Convert(err)
	failure := &Error{Code: state.Code(), Message: state.Message(), status: state}
	for _, detail := range state.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				failure.Reason = Reason(detail.GetReason())
				failure.Metadata = detail.GetMetadata()
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				failure.Violations = append(failure.Violations,
					Violation{violation.GetField(), violation.GetDescription()})
			}
		case *errdetails.RetryInfo:
			failure.RetryAfter = detail.GetRetryDelay().AsDuration()
		case *eudaiv1.GenerationFailure:
			failure.OutputSent = detail.GetOutputSent()
			failure.GenerationID = detail.GetGenerationId()
		}
	}
	return failure
}

func typeUnaryErrors(
	ctx context.Context, method string, request, reply any, connection *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	return typed(invoke(ctx, method, request, reply, connection, options...))
}

func typeStreamErrors(
	ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn, method string,
	start grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := start(ctx, description, connection, method, options...)
	if err != nil {
		return nil, typed(err)
	}
	return typedStream{stream}, nil
}

// typedStream is a stream whose failures are of type *Error.
type typedStream struct{ grpc.ClientStream }

func (s typedStream) RecvMsg(message any) error { return typed(s.ClientStream.RecvMsg(message)) }
func (s typedStream) SendMsg(message any) error { return typed(s.ClientStream.SendMsg(message)) }
func (s typedStream) CloseSend() error          { return typed(s.ClientStream.CloseSend()) }
