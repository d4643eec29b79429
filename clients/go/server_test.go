package eudai_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/eudai/eudai/clients/go"
	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/grpc"
)

const callTimeout = 20 * time.Second

// generateStream is the server's side of a Generate call.
type generateStream = grpc.ServerStreamingServer[eudaiv1.GenerateResponse]

// embedStream is the server's side of an Embed call.
type embedStream = grpc.ServerStreamingServer[eudaiv1.EmbedResponse]

// scriptedServer answers each call with its script.
type scriptedServer struct {
	eudaiv1.UnimplementedEmbeddingServiceServer
	eudaiv1.UnimplementedGenerationServiceServer
	eudaiv1.UnimplementedServerServiceServer
	embed    func(*eudaiv1.EmbedRequest, embedStream) error
	generate func(*eudaiv1.GenerateRequest, generateStream) error
	info     func(context.Context) (*eudaiv1.GetServerInfoResponse, error)
}

func (s *scriptedServer) Embed(request *eudaiv1.EmbedRequest, stream embedStream) error {
	return s.embed(request, stream)
}

func (s *scriptedServer) Generate(
	request *eudaiv1.GenerateRequest, stream generateStream,
) error {
	return s.generate(request, stream)
}

func (s *scriptedServer) GetServerInfo(
	ctx context.Context, _ *eudaiv1.GetServerInfoRequest,
) (*eudaiv1.GetServerInfoResponse, error) {
	return s.info(ctx)
}

// serve starts a server on a port of this machine, and returns its address and a way to stop it.
func serve(
	t *testing.T, script *scriptedServer, options ...grpc.ServerOption,
) (string, func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(append(options, grpc.MaxRecvMsgSize(8<<20))...)
	eudaiv1.RegisterEmbeddingServiceServer(server, script)
	eudaiv1.RegisterGenerationServiceServer(server, script)
	eudaiv1.RegisterServerServiceServer(server, script)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String(), server.Stop
}

// dial returns a client that the test closes.
func dial(t *testing.T, address string, options ...eudai.Option) *eudai.Client {
	t.Helper()
	client, err := eudai.Dial(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// generating returns a client of a server with this script for Generate.
func generating(
	t *testing.T, generate func(*eudaiv1.GenerateRequest, generateStream) error,
) *eudai.Client {
	t.Helper()
	address, _ := serve(t, &scriptedServer{generate: generate})
	return dial(t, address)
}

func withTimeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	t.Cleanup(cancel)
	return ctx
}

func started() *eudaiv1.GenerateResponse {
	return &eudaiv1.GenerateResponse{Event: &eudaiv1.GenerateResponse_Started{
		Started: &eudaiv1.Started{GenerationId: "g1"},
	}}
}

func text(piece string) *eudaiv1.GenerateResponse {
	return &eudaiv1.GenerateResponse{Event: &eudaiv1.GenerateResponse_Delta{
		Delta: &eudaiv1.Delta{Channel: &eudaiv1.Delta_Text{Text: piece}},
	}}
}

func reasoning(piece string) *eudaiv1.GenerateResponse {
	return &eudaiv1.GenerateResponse{Event: &eudaiv1.GenerateResponse_Delta{
		Delta: &eudaiv1.Delta{Channel: &eudaiv1.Delta_Reasoning{Reasoning: piece}},
	}}
}

func finished() *eudaiv1.GenerateResponse {
	return &eudaiv1.GenerateResponse{Event: &eudaiv1.GenerateResponse_Finished{
		Finished: &eudaiv1.Finished{Reason: eudaiv1.FinishReason_FINISH_REASON_STOP},
	}}
}

// play returns a script that sends these events.
func play(
	events ...*eudaiv1.GenerateResponse,
) func(*eudaiv1.GenerateRequest, generateStream) error {
	return func(_ *eudaiv1.GenerateRequest, stream generateStream) error {
		for _, event := range events {
			if err := stream.Send(event); err != nil {
				return err
			}
		}
		return nil
	}
}
