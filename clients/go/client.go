// Package eudai is the client of eudai, a gRPC server in front of Ollama.
//
// A Client streams generations as iterators and returns every failure as an *Error. The stubs of
// the whole contract are its fields.
package eudai

import (
	"context"
	_ "embed" // service_config.json
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"strings"
	"time"

	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

const (
	// DefaultAddress is used if neither Dial nor EUDAI_ADDRESS names a server.
	DefaultAddress = "127.0.0.1:50051"

	// messageBytesMax is the server's own limit for requests and responses.
	messageBytesMax  = 8 << 20
	keepaliveTime    = 30 * time.Second // the server allows a ping every 10 s
	keepaliveTimeout = 10 * time.Second
)

// ServiceConfig is the published gRPC service config. It retries only what the server allows with
// grpc-retry-pushback-ms, and stops retrying while most calls fail.
//
//go:embed service_config.json
var ServiceConfig string

// Client is a connection to an eudai server. It is safe for concurrent use.
type Client struct {
	// The stubs of the contract. Their failures are of type *Error too.
	Generation eudaiv1.GenerationServiceClient
	Embedding  eudaiv1.EmbeddingServiceClient
	Models     eudaiv1.ModelServiceClient
	Server     eudaiv1.ServerServiceClient
	Health     grpc_health_v1.HealthClient

	connection *grpc.ClientConn
}

// Dial returns a client of the server at address, which is host:port or a gRPC target such as
// "dns:///host:port". If address is empty, EUDAI_ADDRESS applies, or else DefaultAddress.
//
// The connection is encrypted if an option or EUDAI_CA_FILE asks for it. Dial reads files and fails
// if they are invalid, but it connects only when the first call starts.
func Dial(address string, options ...Option) (*Client, error) {
	if address == "" {
		address = os.Getenv("EUDAI_ADDRESS")
	}
	if address == "" {
		address = DefaultAddress
	}
	if _, _, err := net.SplitHostPort(address); err != nil && !strings.Contains(address, ":/") {
		return nil, fmt.Errorf("eudai: the address %q is not host:port, such as %q",
			address, DefaultAddress)
	}
	settings := settingsFromEnvironment()
	for _, option := range options {
		option(settings)
	}
	secured, err := settings.credentials(address)
	if err != nil {
		return nil, fmt.Errorf("eudai: %w", err)
	}
	dialOptions := append([]grpc.DialOption{
		grpc.WithDefaultServiceConfig(ServiceConfig),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)),
		grpc.WithChainUnaryInterceptor(typeUnaryErrors),
		grpc.WithChainStreamInterceptor(typeStreamErrors),
	}, secured...)
	connection, err := grpc.NewClient(address, append(dialOptions, settings.dialOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("eudai: cannot use the address %q: %w", address, err)
	}
	return &Client{
		Generation: eudaiv1.NewGenerationServiceClient(connection),
		Embedding:  eudaiv1.NewEmbeddingServiceClient(connection),
		Models:     eudaiv1.NewModelServiceClient(connection),
		Server:     eudaiv1.NewServerServiceClient(connection),
		Health:     grpc_health_v1.NewHealthClient(connection),
		connection: connection,
	}, nil
}

// Close ends all calls and closes the connection.
func (c *Client) Close() error { return c.connection.Close() }

// Connection returns the gRPC connection, for the stubs of other services.
func (c *Client) Connection() *grpc.ClientConn { return c.connection }

// Generate streams the events of one generation. Each iteration is one call, which starts when the
// iteration starts. Leaving the loop or cancelling ctx cancels the call, which stops the model.
//
// A failure is the last element, as an *Error with a nil event. Without one, the generation is
// complete, and Finished was the last event.
func (c *Client) Generate(
	ctx context.Context, request *eudaiv1.GenerateRequest, options ...grpc.CallOption,
) iter.Seq2[*eudaiv1.GenerateResponse, error] {
	return func(yield func(*eudaiv1.GenerateResponse, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := c.Generation.Generate(ctx, request, options...)
		if err != nil {
			yield(nil, err)
			return
		}
		Events(stream)(yield)
	}
}

// Events iterates over the messages of a stream, such as the progress of Models.PullModel. A
// failure is the last element, with a nil message. Leaving the loop does not end the call: cancel
// its context for that.
func Events[Message any](
	stream grpc.ServerStreamingClient[Message],
) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		for {
			message, err := stream.Recv()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(message, nil) {
				return
			}
		}
	}
}

// Text iterates over the text of an answer as it arrives, without reasoning and other events. A
// failure is the last element, with an empty text.
func Text(events iter.Seq2[*eudaiv1.GenerateResponse, error]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for event, err := range events {
			text := event.GetDelta().GetText()
			if err == nil && text == "" {
				continue
			}
			if !yield(text, err) {
				return
			}
		}
	}
}
