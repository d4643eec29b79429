package main

import (
	"context"
	"fmt"
)

// driver makes calls of one protocol.
type driver interface {
	// generate makes one call, and passes each text to receive as it arrives. It returns nil if
	// the answer is complete. It ends early if receive returns an error, or if ctx ends.
	generate(ctx context.Context, prompt string, receive func(text string) error) error
}

func newDriver(o options) (driver, error) {
	switch o.driver {
	case "grpc":
		return newGRPCDriver(o)
	case "ndjson":
		return newHTTPDriver(o, "/api/generate", ndjson{}), nil
	case "sse":
		return newHTTPDriver(o, "/v1/chat/completions", sse{}), nil
	}
	return nil, fmt.Errorf("-driver %q is not grpc, ndjson or sse", o.driver)
}
