package eudai_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/eudai/eudai/clients/go"
	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
)

// untilCancelled sends one text, and reports when the client has left.
func untilCancelled(left chan<- struct{}) func(*eudaiv1.GenerateRequest, generateStream) error {
	return func(_ *eudaiv1.GenerateRequest, stream generateStream) error {
		if err := stream.Send(text("x")); err != nil {
			return err
		}
		<-stream.Context().Done()
		close(left)
		return stream.Context().Err()
	}
}

func TestGenerateYieldsEveryEvent(t *testing.T) {
	client := generating(t, play(started(), reasoning("hm"), text("Hi"), text("!"), finished()))

	var kinds []string
	for event, err := range client.Generate(withTimeout(t), &eudaiv1.GenerateRequest{}) {
		if err != nil {
			t.Fatal(err)
		}
		switch event.GetEvent().(type) {
		case *eudaiv1.GenerateResponse_Started:
			kinds = append(kinds, "started")
		case *eudaiv1.GenerateResponse_Delta:
			kinds = append(kinds, event.GetDelta().GetReasoning()+event.GetDelta().GetText())
		case *eudaiv1.GenerateResponse_Finished:
			kinds = append(kinds, "finished")
		}
	}

	if got := strings.Join(kinds, " "); got != "started hm Hi ! finished" {
		t.Errorf("events: %s", got)
	}
}

func TestEachIterationIsACall(t *testing.T) {
	client := generating(t, play(text("Hi")))
	answer := eudai.Text(client.Generate(withTimeout(t), &eudaiv1.GenerateRequest{}))

	var got string
	for range 2 {
		for piece, err := range answer {
			if err != nil {
				t.Fatal(err)
			}
			got += piece
		}
	}

	if got != "HiHi" {
		t.Errorf("texts: %q", got)
	}
}

func TestTextYieldsOnlyText(t *testing.T) {
	unknown := &eudaiv1.GenerateResponse{}
	unknown.ProtoReflect().SetUnknown(
		protowire.AppendBytes(protowire.AppendTag(nil, 1000, protowire.BytesType), []byte("new")))
	client := generating(t, play(started(), unknown, reasoning("hm"), text("Hi"), finished()))

	var pieces []string
	for piece, err := range eudai.Text(client.Generate(withTimeout(t), &eudaiv1.GenerateRequest{})) {
		if err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, piece)
	}

	if len(pieces) != 1 || pieces[0] != "Hi" {
		t.Errorf("texts: %q", pieces)
	}
}

func TestLeavingTheLoopCancelsTheCall(t *testing.T) {
	left := make(chan struct{})
	client := generating(t, untilCancelled(left))

	// Without a deadline, which would end the call too.
	for _, err := range eudai.Text(client.Generate(t.Context(), &eudaiv1.GenerateRequest{})) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}

	select {
	case <-left:
	case <-withTimeout(t).Done():
		t.Error("the call was not cancelled")
	}
}

func TestCancellingTheContextEndsTheLoop(t *testing.T) {
	left := make(chan struct{})
	client := generating(t, untilCancelled(left))
	ctx, cancel := context.WithCancel(withTimeout(t))
	defer cancel()

	var failure error
	for _, err := range client.Generate(ctx, &eudaiv1.GenerateRequest{}) {
		failure = err
		cancel()
	}

	if !errors.Is(failure, context.Canceled) {
		t.Errorf("failure: %v", failure)
	}
	<-left
}

func TestADeadlineIsAnError(t *testing.T) {
	client := generating(t, untilCancelled(make(chan struct{}, 1)))
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout/100)
	defer cancel()

	var failure error
	for _, err := range client.Generate(ctx, &eudaiv1.GenerateRequest{}) {
		failure = err
	}

	var typed *eudai.Error
	if !errors.As(failure, &typed) || typed.Code != codes.DeadlineExceeded {
		t.Errorf("failure: %v", failure)
	}
	if !errors.Is(failure, context.DeadlineExceeded) || errors.Is(failure, context.Canceled) {
		t.Errorf("failure is not only a context.DeadlineExceeded: %v", failure)
	}
}

func TestAServerThatIsGoneIsAnError(t *testing.T) {
	address, stop := serve(t, &scriptedServer{generate: untilCancelled(make(chan struct{}))})
	client := dial(t, address)

	var failure error
	for _, err := range client.Generate(withTimeout(t), &eudaiv1.GenerateRequest{}) {
		if failure = err; err == nil {
			stop()
		}
	}

	var typed *eudai.Error
	if !errors.As(failure, &typed) || typed.Code != codes.Unavailable || typed.Reason != "" {
		t.Errorf("failure: %v", failure)
	}
}

func TestAMessageMayHave8MiB(t *testing.T) {
	client := generating(t, play(text(strings.Repeat("x", 8<<20-100))))

	for piece, err := range eudai.Text(client.Generate(withTimeout(t), &eudaiv1.GenerateRequest{})) {
		if err != nil || len(piece) != 8<<20-100 {
			t.Errorf("%d bytes, %v", len(piece), err)
		}
	}
}
