package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	lineBytes    = 4 << 10
	lineBytesMax = 1 << 20
	errorBytes   = 64 << 10
)

type gateway struct {
	eudaiv1.UnimplementedGenerationServiceServer
	client *http.Client
	url    string
}

// line is a line of both routes of Ollama that generate.
type line struct {
	Response   string `json:"response"`
	Message    turn   `json:"message"`
	Error      string `json:"error"`
	Done       bool   `json:"done"`
	DoneReason string `json:"done_reason"`

	PromptEvalCount    int32         `json:"prompt_eval_count"`
	EvalCount          int32         `json:"eval_count"`
	LoadDuration       time.Duration `json:"load_duration"`
	PromptEvalDuration time.Duration `json:"prompt_eval_duration"`
	EvalDuration       time.Duration `json:"eval_duration"`
}

func (g *gateway) Generate(
	request *eudaiv1.GenerateRequest, stream grpc.ServerStreamingServer[eudaiv1.GenerateResponse],
) error {
	return g.generate(stream.Context(), request, stream.Send)
}

func (g *gateway) GenerateOnce(
	ctx context.Context, request *eudaiv1.GenerateOnceRequest,
) (*eudaiv1.GenerateOnceResponse, error) {
	generation := &eudaiv1.Generation{}
	var text strings.Builder
	err := g.generate(ctx, request.GetRequest(), func(event *eudaiv1.GenerateResponse) error {
		text.WriteString(event.GetDelta().GetText())
		if started := event.GetStarted(); started != nil {
			generation.Started = started
		}
		if finished := event.GetFinished(); finished != nil {
			generation.Finished = finished
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	generation.Message = &eudaiv1.Message{
		Role:  eudaiv1.Role_ROLE_ASSISTANT,
		Parts: []*eudaiv1.Part{{Kind: &eudaiv1.Part_Text{Text: text.String()}}},
	}
	return &eudaiv1.GenerateOnceResponse{Generation: generation}, nil
}

// generate passes each event to send. If ctx ends, Ollama's connection is closed.
func (g *gateway) generate(
	ctx context.Context, request *eudaiv1.GenerateRequest,
	send func(*eudaiv1.GenerateResponse) error,
) error {
	answer, err := g.post(ctx, request)
	if err != nil {
		return err
	}
	defer answer.Close()
	started, finished := false, false
	lines := bufio.NewScanner(answer)
	lines.Buffer(make([]byte, 0, lineBytes), lineBytesMax)
	for lines.Scan() {
		var decoded line
		if err := json.Unmarshal(lines.Bytes(), &decoded); err != nil {
			return status.Errorf(codes.Internal, "Ollama sent a malformed line: %v", err)
		}
		if decoded.Error != "" {
			return status.Errorf(codes.Internal, "Ollama failed: %s", decoded.Error)
		}
		if !started {
			if err := send(startedEvent(request)); err != nil {
				return err
			}
			started = true
		}
		if text := decoded.Response + decoded.Message.Content; text != "" {
			if err := send(deltaEvent(text)); err != nil {
				return err
			}
		}
		if decoded.Done {
			if err := send(finishedEvent(&decoded)); err != nil {
				return err
			}
			finished = true
		}
	}
	if err := lines.Err(); err != nil {
		return failure(ctx, err)
	}
	if !finished {
		return status.Error(codes.Unavailable, "Ollama's answer ended early")
	}
	return nil
}

// post sends a request to Ollama, and returns the body of its answer.
func (g *gateway) post(
	ctx context.Context, request *eudaiv1.GenerateRequest,
) (io.ReadCloser, error) {
	route, body, err := encode(request)
	if err != nil {
		return nil, err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+route, body)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	answer, err := g.client.Do(post)
	if err != nil {
		return nil, failure(ctx, err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer.Body, nil
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, errorBytes))
	code := codes.Unavailable
	switch answer.StatusCode {
	case http.StatusBadRequest:
		code = codes.InvalidArgument
	case http.StatusNotFound:
		code = codes.NotFound
	}
	return nil, status.Errorf(code, "Ollama answered %s: %s", answer.Status, text)
}

// failure is the status of a call whose connection to Ollama failed.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Errorf(codes.Unavailable, "the connection to Ollama failed: %v", err)
}

func startedEvent(request *eudaiv1.GenerateRequest) *eudaiv1.GenerateResponse {
	return &eudaiv1.GenerateResponse{Event: &eudaiv1.GenerateResponse_Started{
		Started: &eudaiv1.Started{
			GenerationId: rand.Text(), Model: request.GetModel(), StartTime: timestamppb.Now(),
		},
	}}
}

func deltaEvent(text string) *eudaiv1.GenerateResponse {
	return &eudaiv1.GenerateResponse{Event: &eudaiv1.GenerateResponse_Delta{
		Delta: &eudaiv1.Delta{Channel: &eudaiv1.Delta_Text{Text: text}},
	}}
}

func finishedEvent(last *line) *eudaiv1.GenerateResponse {
	reason := eudaiv1.FinishReason_FINISH_REASON_UNSPECIFIED
	switch last.DoneReason {
	case "stop":
		reason = eudaiv1.FinishReason_FINISH_REASON_STOP
	case "length":
		reason = eudaiv1.FinishReason_FINISH_REASON_LENGTH
	}
	return &eudaiv1.GenerateResponse{Event: &eudaiv1.GenerateResponse_Finished{
		Finished: &eudaiv1.Finished{
			Reason: reason, BackendReason: last.DoneReason,
			Usage: &eudaiv1.Usage{
				InputTokens: &last.PromptEvalCount, OutputTokens: &last.EvalCount,
			},
			Timings: &eudaiv1.Timings{
				Load:     durationpb.New(last.LoadDuration),
				Prompt:   durationpb.New(last.PromptEvalDuration),
				Generate: durationpb.New(last.EvalDuration),
			},
		},
	}}
}
