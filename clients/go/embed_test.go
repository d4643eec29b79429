package eudai_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/eudai/eudai/clients/go"
	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const batchTextsMax = 4096

// embedder returns a client whose server keeps the number of texts of each request in counts. The
// vector of a text has its length. The text "lost" gets no vector, and "bad" ends the call. The
// model changes with each request if digests has more than one digest.
func embedder(t *testing.T, counts *[]int, digests ...string) *eudai.Client {
	t.Helper()
	embed := func(request *eudaiv1.EmbedRequest, stream embedStream) error {
		digest := digests[min(len(*counts), len(digests)-1)]
		*counts = append(*counts, len(request.GetInputs()))
		if expected := request.GetExpectedDigest(); expected != "" && expected != digest {
			return refusal(codes.FailedPrecondition, info("DIGEST_MISMATCH"))
		}
		response := &eudaiv1.EmbedResponse{Digest: digest}
		for index, text := range request.GetInputs() {
			if text == "bad" {
				return refusal(codes.InvalidArgument,
					&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
						{Field: fmt.Sprintf("inputs[%d]", index), Description: "is bad"},
					}})
			}
			if text != "lost" {
				response.Embeddings = append(response.Embeddings,
					&eudaiv1.Embedding{Values: []float32{float32(len(text))}})
			}
		}
		return stream.Send(response)
	}
	address, _ := serve(t, &scriptedServer{embed: embed})
	return dial(t, address)
}

func requestWith(inputs ...string) *eudaiv1.EmbedRequest {
	return &eudaiv1.EmbedRequest{Model: "m", Inputs: inputs}
}

func texts(count int) []string {
	texts := make([]string, count)
	for index := range texts {
		texts[index] = strings.Repeat("x", index%7)
	}
	return texts
}

func TestEmbedSplitsMoreTextsThanARequestMayHave(t *testing.T) {
	for count, expected := range map[int]string{
		0: "[0]", 1: "[1]", batchTextsMax: "[4096]", batchTextsMax + 1: "[4096 1]",
	} {
		var counts []int
		client := embedder(t, &counts, "sha256:1")

		vectors, err := client.Embed(withTimeout(t), requestWith(texts(count)...))

		if err != nil || len(vectors) != count || fmt.Sprint(counts) != expected {
			t.Errorf("%d texts: %d vectors of requests %v, %v", count, len(vectors), counts, err)
		}
		for index, vector := range vectors {
			if vector[0] != float32(index%7) {
				t.Fatalf("vector %d is that of another text", index)
			}
		}
	}
}

func TestEmbedSplitsTextsThatAreTooLargeForARequest(t *testing.T) {
	var counts []int
	client := embedder(t, &counts, "sha256:1")
	large := strings.Repeat("x", 3<<20)

	vectors, err := client.Embed(withTimeout(t), requestWith(large, large, large))

	if err != nil || len(vectors) != 3 || fmt.Sprint(counts) != "[2 1]" {
		t.Errorf("%d vectors of requests %v, %v", len(vectors), counts, err)
	}
}

func TestEmbedDoesNotMixModels(t *testing.T) {
	var counts []int
	client := embedder(t, &counts, "sha256:1", "sha256:2")
	request := requestWith(texts(batchTextsMax + 1)...)

	_, err := client.Embed(withTimeout(t), request)

	var failure *eudai.Error
	if !errors.As(err, &failure) || failure.Reason != eudai.ReasonDigestMismatch {
		t.Errorf("failure: %v", err)
	}
	if request.GetExpectedDigest() != "" || len(request.GetInputs()) != batchTextsMax+1 {
		t.Error("the request of the caller has changed")
	}
}

func TestAnErrorOfEmbedNamesTheText(t *testing.T) {
	var counts []int
	client := embedder(t, &counts, "sha256:1")
	inputs := append(texts(batchTextsMax+3), "bad")

	_, err := client.Embed(withTimeout(t), requestWith(inputs...))

	var failure *eudai.Error
	if !errors.As(err, &failure) || failure.Violations[0].Field != "inputs[4099]" {
		t.Errorf("failure: %v", err)
	}
}

func TestMissingVectorsAreAnError(t *testing.T) {
	var counts []int
	client := embedder(t, &counts, "sha256:1")

	_, err := client.Embed(withTimeout(t), requestWith("a", "lost"))

	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "1 of 2 vectors") {
		t.Errorf("failure: %v", err)
	}
}
