package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// received makes a call, and returns the texts that are not empty.
func received(t *testing.T, o options) ([]string, error) {
	t.Helper()
	o.model, o.streams, o.connections = "bench", 1, 1
	d, err := newDriver(o)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	err = d.generate(context.Background(), "tokens=2", func(text string) error {
		if text != "" {
			texts = append(texts, text)
		}
		return nil
	})
	return texts, err
}

func TestHTTPAnswersAreRead(t *testing.T) {
	const unnamed = "data: {\"choices\":[]}\n\n"
	for _, test := range []struct {
		name, driver, answer string
		status               int
		texts                []string
		failure              string
	}{
		{
			name: "lines", driver: "ndjson",
			answer: `{"response":"a","done":false}` + "\n" + `{"response":"b"}` + "\n" +
				`{"response":"","done":true}` + "\n",
			texts: []string{"a", "b"},
		},
		{
			name: "lines with spaces, escapes, and text in the last one", driver: "ndjson",
			answer: `{"response": "a", "done": false}` + "\n" +
				`{"response":"\u0062\"","done":false}` + "\n" + `{"response":"c","done":true}` + "\n",
			texts: []string{"a", `b"`, "c"},
		},
		{
			name: "no last line", driver: "ndjson", answer: `{"response":"a"}` + "\n",
			texts: []string{"a"}, failure: "the answer ended early",
		},
		{
			name: "an error in a line", driver: "ndjson", answer: `{"error":"no memory"}` + "\n",
			failure: "no memory",
		},
		{
			name: "a malformed line", driver: "ndjson", answer: "oops\n", failure: "malformed line",
		},
		{
			name: "a status", driver: "ndjson", status: http.StatusServiceUnavailable,
			answer: "busy", failure: "503 Service Unavailable: busy",
		},
		{
			name: "events", driver: "sse",
			answer: ": ping\n\nevent: x\r\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\"," +
				"\"content\":null}}]}\r\n\r\ndata:{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n" +
				unnamed + "data: [DONE]\n\n",
			texts: []string{"a"},
		},
		{
			name: "events with spaces and escapes", driver: "sse",
			answer: `data: {"choices": [{"delta": {"content": "a"}}]}` + "\n\n" +
				`data: {"choices":[{"delta":{"content":"\u0062"}}]}` + "\n\ndata: [DONE]\n\n",
			texts: []string{"a", "b"},
		},
		{
			name: "no last event", driver: "sse", answer: unnamed, failure: "the answer ended early",
		},
		{
			name: "an error in an event", driver: "sse",
			answer: "data: {\"error\":{\"message\":\"no key\"}}\n\n", failure: "no key",
		},
	} {
		server := httptest.NewServer(http.HandlerFunc(
			func(w http.ResponseWriter, _ *http.Request) {
				if test.status != 0 {
					w.WriteHeader(test.status)
				}
				_, _ = io.WriteString(w, test.answer)
			}))
		texts, err := received(t, options{
			driver: test.driver, target: strings.TrimPrefix(server.URL, "http://"),
		})
		server.Close()
		if test.failure == "" && err != nil || !slices.Equal(texts, test.texts) ||
			test.failure != "" && (err == nil || !strings.Contains(err.Error(), test.failure)) {
			t.Errorf("%s: %q, %v", test.name, texts, err)
		}
	}
}

func TestHTTPRequestsHaveRouteHeadersAndPrompt(t *testing.T) {
	for driver, wanted := range map[string]struct{ route, body string }{
		"ndjson": {"/api/generate", `{"model":"bench","prompt":"tokens=2","stream":true}`},
		"sse": {"/v1/chat/completions", `{"messages":[{"content":"tokens=2","role":"user"}],` +
			`"model":"bench","stream":true}`},
	} {
		for _, path := range []string{"", "/olla" + wanted.route} {
			seen := ""
			server := httptest.NewServer(http.HandlerFunc(
				func(_ http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					seen = r.URL.Path + " " + r.Header.Get("X-Key") + " " + string(body)
				}))
			_, _ = received(t, options{
				driver: driver, target: strings.TrimPrefix(server.URL, "http://"), path: path,
				headers: map[string]string{"X-Key": "k"},
			})
			server.Close()
			if route := strings.TrimPrefix(seen, "/olla"); route != wanted.route+" k "+wanted.body ||
				strings.HasPrefix(seen, "/olla") != (path != "") {
				t.Errorf("%s %s: %s", driver, path, seen)
			}
		}
	}
}

// grpcServer answers with its events, then with its error.
type grpcServer struct {
	eudaiv1.UnimplementedGenerationServiceServer
	events  []*eudaiv1.GenerateResponse
	failure error
	seen    string
}

func (s *grpcServer) Generate(
	request *eudaiv1.GenerateRequest, stream grpc.ServerStreamingServer[eudaiv1.GenerateResponse],
) error {
	incoming, _ := metadata.FromIncomingContext(stream.Context())
	s.seen = request.GetModel() + " " + request.GetPrompt() + " " +
		strings.Join(incoming.Get("x-key"), ",")
	for _, event := range s.events {
		if err := stream.Send(event); err != nil {
			return err
		}
	}
	return s.failure
}

func TestGRPCAnswersAreRead(t *testing.T) {
	started := &eudaiv1.GenerateResponse{Event: &eudaiv1.GenerateResponse_Started{
		Started: &eudaiv1.Started{},
	}}
	delta := &eudaiv1.GenerateResponse{Event: &eudaiv1.GenerateResponse_Delta{
		Delta: &eudaiv1.Delta{Channel: &eudaiv1.Delta_Text{Text: "a"}},
	}}
	finished := &eudaiv1.GenerateResponse{Event: &eudaiv1.GenerateResponse_Finished{
		Finished: &eudaiv1.Finished{},
	}}
	for _, test := range []struct {
		name    string
		server  *grpcServer
		texts   []string
		failure string
	}{
		{"complete", &grpcServer{events: []*eudaiv1.GenerateResponse{started, delta, finished}},
			[]string{"a"}, ""},
		{"no Finished", &grpcServer{events: []*eudaiv1.GenerateResponse{started, delta}},
			[]string{"a"}, "ended without Finished"},
		{"a status", &grpcServer{failure: status.Error(codes.ResourceExhausted, "the queue is full")},
			nil, "the queue is full"},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer()
		eudaiv1.RegisterGenerationServiceServer(server, test.server)
		go func() { _ = server.Serve(listener) }()
		texts, err := received(t, options{
			driver: "grpc", target: listener.Addr().String(),
			headers: map[string]string{"X-Key": "k"},
		})
		server.Stop()
		if test.failure == "" && err != nil || !slices.Equal(texts, test.texts) ||
			test.failure != "" && (err == nil || !strings.Contains(err.Error(), test.failure)) {
			t.Errorf("%s: %q, %v", test.name, texts, err)
		}
		if test.server.seen != "bench tokens=2 k" {
			t.Errorf("%s: the server saw %q", test.name, test.server.seen)
		}
	}
}
