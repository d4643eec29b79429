package eudai

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// The server allows 4,096 texts and 8 MiB in a request.
const (
	batchTextsMax = 4096
	batchBytesMax = 7 << 20
)

var inputIndex = regexp.MustCompile(`\binputs\[(\d+)\]`)

// Embed returns a vector for each input of the request, in their order.
//
// More inputs than the server allows in one request are sent in several, one after the other. All
// but the first expect the digest of the first response, because vectors of two models cannot be
// compared.
func (c *Client) Embed(
	ctx context.Context, request *eudaiv1.EmbedRequest, options ...grpc.CallOption,
) ([][]float32, error) {
	inputs := request.GetInputs()
	batch := proto.Clone(request).(*eudaiv1.EmbedRequest)
	vectors := make([][]float32, 0, len(inputs))
	for begin, isFirst := 0, true; isFirst || begin < len(inputs); isFirst = false {
		batch.Inputs = inputs[begin : begin+batchLength(inputs[begin:])]
		stream, err := c.Embedding.Embed(ctx, batch, options...)
		if err != nil {
			return nil, err
		}
		for response, err := range Events(stream) {
			if err != nil {
				return nil, numbered(err, begin)
			}
			if digest := response.GetDigest(); digest != "" {
				batch.ExpectedDigest = digest
			}
			for _, embedding := range response.GetEmbeddings() {
				vectors = append(vectors, embedding.GetValues())
			}
		}
		begin += len(batch.Inputs)
	}
	if len(vectors) != len(inputs) {
		return nil, typed(status.Errorf(codes.Internal,
			"the server sent %d of %d vectors", len(vectors), len(inputs)))
	}
	return vectors, nil
}

// batchLength returns how many of the inputs fit in one request.
func batchLength(inputs []string) int {
	size := 0
	for length, input := range inputs {
		size += len(input)
		if length == batchTextsMax || length > 0 && size > batchBytesMax {
			return length
		}
	}
	return len(inputs)
}

// numbered lets an error name an input by its place in the request, and not in its batch.
func numbered(err error, begin int) error {
	var failure *Error
	if !errors.As(err, &failure) {
		return err
	}
	shifted := func(text string) string {
		return inputIndex.ReplaceAllStringFunc(text, func(found string) string {
			index, _ := strconv.Atoi(inputIndex.FindStringSubmatch(found)[1])
			return fmt.Sprintf("inputs[%d]", begin+index)
		})
	}
	failure.Message = shifted(failure.Message)
	for i := range failure.Violations {
		failure.Violations[i].Field = shifted(failure.Violations[i].Field)
	}
	return failure
}
