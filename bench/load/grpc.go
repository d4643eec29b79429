package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// grpcDriver calls Generate on connections that take turns.
type grpcDriver struct {
	clients []eudaiv1.GenerationServiceClient
	next    atomic.Uint64
	model   string
	headers []string // names and values in turn
}

func newGRPCDriver(o options) (*grpcDriver, error) {
	d := &grpcDriver{model: o.model}
	for name, value := range o.headers {
		d.headers = append(d.headers, name, value)
	}
	for range o.connections {
		connection, err := grpc.NewClient(o.target,
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, fmt.Errorf("-target %s: %w", o.target, err)
		}
		d.clients = append(d.clients, eudaiv1.NewGenerationServiceClient(connection))
	}
	return d, nil
}

func (d *grpcDriver) generate(
	ctx context.Context, prompt string, receive func(text string) error,
) error {
	client := d.clients[d.next.Add(1)%uint64(len(d.clients))]
	stream, err := client.Generate(metadata.AppendToOutgoingContext(ctx, d.headers...),
		&eudaiv1.GenerateRequest{
			Model: d.model, Input: &eudaiv1.GenerateRequest_Prompt{Prompt: prompt},
		})
	if err != nil {
		return err
	}
	finished := false
	for {
		response, err := stream.Recv()
		switch {
		case err == io.EOF && !finished:
			return errors.New("the stream ended without Finished")
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		finished = finished || response.GetFinished() != nil
		if err := receive(response.GetDelta().GetText()); err != nil {
			return err
		}
	}
}
