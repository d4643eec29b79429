package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const callTimeout = 20 * time.Second

// connect starts a gateway in front of a handler that plays Ollama.
func connect(t *testing.T, ollama http.HandlerFunc) *grpc.ClientConn {
	t.Helper()
	upstream := httptest.NewServer(ollama)
	t.Cleanup(upstream.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(upstream.URL)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	connection, err := grpc.NewClient(listener.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func generationOf(t *testing.T, ollama http.HandlerFunc) eudaiv1.GenerationServiceClient {
	t.Helper()
	return eudaiv1.NewGenerationServiceClient(connect(t, ollama))
}

func withTimeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	t.Cleanup(cancel)
	return ctx
}

func prompt(text string) *eudaiv1.GenerateRequest {
	return &eudaiv1.GenerateRequest{
		Model: "bench", Input: &eudaiv1.GenerateRequest_Prompt{Prompt: text},
	}
}

// answers writes an answer to every request.
func answers(status int, lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.Join(lines, "\n"))
	}
}

const lastLine = `{"response":"","done":true,"done_reason":"stop","eval_count":2,` +
	`"prompt_eval_count":8,"eval_duration":5000}`

func TestEachLineBecomesAMessage(t *testing.T) {
	client := generationOf(t, answers(http.StatusOK,
		`{"response":"a"}`, `{"message":{"role":"assistant","content":"b"}}`, lastLine))
	stream, err := client.Generate(withTimeout(t), prompt("x"))
	if err != nil {
		t.Fatal(err)
	}
	var events []*eudaiv1.GenerateResponse
	for {
		event, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, event)
	}

	if len(events) != 4 || events[0].GetStarted().GetModel() != "bench" ||
		events[1].GetDelta().GetText() != "a" || events[2].GetDelta().GetText() != "b" {
		t.Fatalf("%v", events)
	}
	last := events[3].GetFinished()
	if last.GetReason() != eudaiv1.FinishReason_FINISH_REASON_STOP ||
		last.GetUsage().GetOutputTokens() != 2 || last.GetUsage().GetInputTokens() != 8 ||
		last.GetTimings().GetGenerate().AsDuration() != 5*time.Microsecond {
		t.Errorf("%v", last)
	}
}

func TestGenerateOnceReturnsTheWholeText(t *testing.T) {
	client := generationOf(t,
		answers(http.StatusOK, `{"response":"a"}`, `{"response":"b"}`, lastLine))

	answer, err := client.GenerateOnce(withTimeout(t),
		&eudaiv1.GenerateOnceRequest{Request: prompt("x")})

	generation := answer.GetGeneration()
	if err != nil || generation.GetMessage().GetParts()[0].GetText() != "ab" ||
		generation.GetStarted() == nil || generation.GetFinished() == nil {
		t.Errorf("%v, %v", answer, err)
	}
}

func TestTheInputReachesOllama(t *testing.T) {
	var seen string
	client := generationOf(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen = r.URL.Path + " " + string(body)
		_, _ = io.WriteString(w, lastLine)
	})
	text := &eudaiv1.Part{Kind: &eudaiv1.Part_Text{Text: "x"}}
	conversation := &eudaiv1.GenerateRequest{
		Model: "bench", System: "s",
		Input: &eudaiv1.GenerateRequest_Conversation{Conversation: &eudaiv1.Conversation{
			Messages: []*eudaiv1.Message{{
				Role: eudaiv1.Role_ROLE_USER, Parts: []*eudaiv1.Part{text, text},
			}},
		}},
	}
	for wanted, request := range map[string]*eudaiv1.GenerateRequest{
		`/api/generate {"model":"bench","prompt":"x","stream":true}`: prompt("x"),
		`/api/chat {"model":"bench","messages":[{"role":"system","content":"s"},` +
			`{"role":"user","content":"xx"}],"stream":true}`: conversation,
	} {
		_, err := client.GenerateOnce(withTimeout(t),
			&eudaiv1.GenerateOnceRequest{Request: request})
		if err != nil || seen != wanted {
			t.Errorf("%s, %v", seen, err)
		}
	}
}

func TestAFailureOfOllamaBecomesAStatus(t *testing.T) {
	for _, test := range []struct {
		ollama  http.HandlerFunc
		request *eudaiv1.GenerateRequest
		code    codes.Code
	}{
		{answers(http.StatusNotFound, `{"error":"x"}`), prompt("x"), codes.NotFound},
		{answers(http.StatusBadRequest, `{"error":"x"}`), prompt("x"), codes.InvalidArgument},
		{answers(http.StatusServiceUnavailable), prompt("x"), codes.Unavailable},
		{answers(http.StatusOK, `{"response":"a"}`), prompt("x"), codes.Unavailable},
		{answers(http.StatusOK, `{"error":"x"}`), prompt("x"), codes.Internal},
		{answers(http.StatusOK, `oops`), prompt("x"), codes.Internal},
		{answers(http.StatusOK), &eudaiv1.GenerateRequest{}, codes.InvalidArgument},
	} {
		_, err := generationOf(t, test.ollama).GenerateOnce(withTimeout(t),
			&eudaiv1.GenerateOnceRequest{Request: test.request})
		if status.Code(err) != test.code {
			t.Errorf("%v, not %s", err, test.code)
		}
	}
}

func TestTheEndOfACallReachesOllama(t *testing.T) {
	left := make(chan struct{}, 2)
	client := generationOf(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // net/http notices the end of a connection only then
		_ = json.NewEncoder(w).Encode(line{Response: "a"})
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		left <- struct{}{}
	})
	for _, test := range []struct {
		timeout time.Duration
		leaves  bool
		code    codes.Code
	}{
		{callTimeout, true, codes.Canceled},
		{time.Second, false, codes.DeadlineExceeded},
	} {
		ctx, leave := context.WithTimeout(context.Background(), test.timeout)
		stream, err := client.Generate(ctx, prompt("x"))
		for event := (*eudaiv1.GenerateResponse)(nil); err == nil; {
			event, err = stream.Recv()
			if test.leaves && event.GetDelta() != nil {
				leave()
			}
		}
		if status.Code(err) != test.code {
			t.Errorf("%v, not %s", err, test.code)
		}
		select {
		case <-left:
		case <-time.After(callTimeout):
			t.Errorf("%s: the connection to Ollama was not closed", test.code)
		}
		leave()
	}
}

func TestHealthIsServing(t *testing.T) {
	connection := connect(t, answers(http.StatusOK))

	answer, err := grpc_health_v1.NewHealthClient(connection).Check(
		withTimeout(t), &grpc_health_v1.HealthCheckRequest{})

	if err != nil || answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", answer, err)
	}
}
