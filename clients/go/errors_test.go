package eudai_test

import (
	"context"
	"errors"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eudai/eudai/clients/go"
	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

func refusal(code codes.Code, details ...protoadapt.MessageV1) error {
	state, err := status.New(code, "refused").WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return state.Err()
}

func info(reason string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{
		Domain: "eudai", Reason: reason, Metadata: map[string]string{"model": "m"},
	}
}

// serverInfo returns the failure of one unary call.
func serverInfo(
	t *testing.T, script func(context.Context) (*eudaiv1.GetServerInfoResponse, error),
) error {
	t.Helper()
	address, _ := serve(t, &scriptedServer{info: script})
	_, err := dial(t, address).Server.GetServerInfo(withTimeout(t), &eudaiv1.GetServerInfoRequest{})
	return err
}

func TestAnErrorHasAllDetails(t *testing.T) {
	client := generating(t, func(_ *eudaiv1.GenerateRequest, stream generateStream) error {
		return refusal(codes.InvalidArgument, info("INVALID_REQUEST"),
			&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
				{Field: "sampling.temperature", Description: "must be at most 5"},
			}},
			&errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)},
			&eudaiv1.GenerationFailure{OutputSent: true, GenerationId: "g1"})
	})

	var failure *eudai.Error
	for _, err := range client.Generate(withTimeout(t), &eudaiv1.GenerateRequest{}) {
		if !errors.As(err, &failure) {
			t.Fatalf("not an eudai.Error: %v", err)
		}
	}

	state := status.Convert(failure)
	if state.Code() != codes.InvalidArgument || len(state.Details()) != 4 {
		t.Errorf("status: %v", state)
	}
	const line = "eudai: InvalidArgument (INVALID_REQUEST): refused; " +
		"sampling.temperature: must be at most 5"
	if failure.Error() != line {
		t.Errorf("text: %s", failure)
	}
	if failure.Reason != eudai.ReasonInvalidRequest || failure.Metadata["model"] != "m" ||
		failure.RetryAfter != 3*time.Second || !failure.OutputSent || failure.GenerationID != "g1" {
		t.Errorf("failure: %+v", failure)
	}
	violations := []eudai.Violation{{"sampling.temperature", "must be at most 5"}}
	if !reflect.DeepEqual(failure.Violations, violations) {
		t.Errorf("violations: %v", failure.Violations)
	}
}

func TestAnErrorOfAStubIsTyped(t *testing.T) {
	err := serverInfo(t, func(context.Context) (*eudaiv1.GetServerInfoResponse, error) {
		return nil, refusal(codes.Internal, info("A_NEWER_REASON"))
	})

	var failure *eudai.Error
	if !errors.As(err, &failure) || failure.Reason != "A_NEWER_REASON" {
		t.Errorf("failure: %v", err)
	}
}

func TestAReasonOfAnotherServiceIsNotAReason(t *testing.T) {
	err := serverInfo(t, func(context.Context) (*eudaiv1.GetServerInfoResponse, error) {
		return nil, refusal(codes.Internal,
			&errdetails.ErrorInfo{Domain: "proxy.example", Reason: "QUEUE_FULL"})
	})

	var failure *eudai.Error
	if !errors.As(err, &failure) || failure.Reason != "" || failure.Code != codes.Internal {
		t.Errorf("failure: %v", err)
	}
}

func TestACallIsRepeatedOnlyIfTheServerAllowsIt(t *testing.T) {
	for _, test := range []struct {
		pushback string
		attempts int32
		code     codes.Code
	}{{"1", 3, codes.OK}, {"-1", 1, codes.Unavailable}} {
		var attempts atomic.Int32
		err := serverInfo(t, func(ctx context.Context) (*eudaiv1.GetServerInfoResponse, error) {
			if attempts.Add(1) == 3 {
				return &eudaiv1.GetServerInfoResponse{}, nil
			}
			trailer := metadata.Pairs("grpc-retry-pushback-ms", test.pushback)
			if err := grpc.SetTrailer(ctx, trailer); err != nil {
				return nil, err
			}
			return nil, refusal(codes.Unavailable, info("DRAINING"))
		})

		if attempts.Load() != test.attempts || status.Code(err) != test.code {
			t.Errorf("pushback %s: %d attempts, %v", test.pushback, attempts.Load(), err)
		}
	}
}
