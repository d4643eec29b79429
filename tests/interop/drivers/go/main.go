// The driver of the Go client: makes one call and prints what it saw. tests/interop/driver.py
// describes the plan and the report.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log"
	"os"
	"strings"
	"time"

	"github.com/eudai/eudai/clients/go"
	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

type plan struct {
	Call       string          `json:"call"`
	Request    json.RawMessage `json:"request"`
	DeadlineS  float64         `json:"deadline_s"`
	LeaveAfter int             `json:"leave_after"`
	CAFile     string          `json:"ca_file"`
	CertFile   string          `json:"cert_file"`
	KeyFile    string          `json:"key_file"`
	TokenFile  string          `json:"token_file"`
}

type report struct {
	Responses []json.RawMessage `json:"responses"`
	Left      bool              `json:"left"`
	Error     *failure          `json:"error"`
}

type failure struct {
	Code         int               `json:"code"`
	Reason       string            `json:"reason"`
	Message      string            `json:"message"`
	Metadata     map[string]string `json:"metadata"`
	Violations   []violation       `json:"violations"`
	RetryAfterS  float64           `json:"retry_after_s"`
	OutputSent   bool              `json:"output_sent"`
	GenerationID string            `json:"generation_id"`
}

type violation struct {
	Field       string `json:"field"`
	Description string `json:"description"`
}

func main() {
	// os.Args[1] names the scenario. This driver treats all of them alike.
	var p plan
	check(json.NewDecoder(os.Stdin).Decode(&p))
	client, err := eudai.Dial(os.Args[2], p.options()...)
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(),
		time.Duration(p.DeadlineS*float64(time.Second)))
	defer cancel()
	seen := report{Responses: []json.RawMessage{}}
	for response, err := range call(ctx, client, p) {
		if err != nil {
			seen.Error = describe(err)
			break
		}
		text, err := protojson.Marshal(response)
		check(err)
		seen.Responses = append(seen.Responses, text)
		if len(seen.Responses) == p.LeaveAfter {
			seen.Left = true
			break
		}
	}
	check(json.NewEncoder(os.Stdout).Encode(seen))
	check(client.Close())
}

func (p plan) options() []eudai.Option {
	var options []eudai.Option
	if p.CAFile != "" {
		options = append(options, eudai.WithCAFile(p.CAFile))
	}
	if p.CertFile != "" {
		options = append(options, eudai.WithClientCertificate(p.CertFile, p.KeyFile))
	}
	if p.TokenFile != "" {
		options = append(options, eudai.WithTokenFile(p.TokenFile))
	}
	return options
}

// call makes the call of a plan: Generate and Embed as a program would, other methods by their
// descriptor.
func call(ctx context.Context, client *eudai.Client, p plan) iter.Seq2[proto.Message, error] {
	if p.Call == "eudai.v1.GenerationService/Generate" {
		request := &eudaiv1.GenerateRequest{}
		check(protojson.Unmarshal(p.Request, request))
		return messages(client.Generate(ctx, request))
	}
	if p.Call == "eudai.v1.EmbeddingService/Embed" {
		return embed(ctx, client, p)
	}
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(
		protoreflect.FullName(strings.ReplaceAll(p.Call, "/", ".")))
	check(err)
	method := found.(protoreflect.MethodDescriptor)
	request := newMessage(method.Input())
	check(protojson.Unmarshal(p.Request, request))
	return func(yield func(proto.Message, error) bool) {
		stream, err := client.Connection().NewStream(ctx,
			&grpc.StreamDesc{ServerStreams: true}, "/"+p.Call)
		check(err)
		// The status of a call that ended early is what RecvMsg returns.
		_ = stream.SendMsg(request)
		_ = stream.CloseSend()
		for {
			response := newMessage(method.Output())
			err := stream.RecvMsg(response)
			if err == io.EOF || !yield(response, err) || err != nil {
				return
			}
		}
	}
}

func embed(ctx context.Context, client *eudai.Client, p plan) iter.Seq2[proto.Message, error] {
	return func(yield func(proto.Message, error) bool) {
		request := &eudaiv1.EmbedRequest{}
		check(protojson.Unmarshal(p.Request, request))
		vectors, err := client.Embed(ctx, request)
		response := &eudaiv1.EmbedResponse{}
		for _, vector := range vectors {
			response.Embeddings = append(response.Embeddings, &eudaiv1.Embedding{Values: vector})
		}
		yield(response, err)
	}
}

func newMessage(descriptor protoreflect.MessageDescriptor) proto.Message {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.FullName())
	check(err)
	return kind.New().Interface()
}

func messages(events iter.Seq2[*eudaiv1.GenerateResponse, error]) iter.Seq2[proto.Message, error] {
	return func(yield func(proto.Message, error) bool) {
		events(func(event *eudaiv1.GenerateResponse, err error) bool { return yield(event, err) })
	}
}

func describe(err error) *failure {
	var failed *eudai.Error
	if !errors.As(err, &failed) {
		log.Fatalf("not an eudai.Error: %v", err)
	}
	described := &failure{
		Code: int(failed.Code), Reason: string(failed.Reason), Message: failed.Message,
		Metadata: failed.Metadata, RetryAfterS: failed.RetryAfter.Seconds(),
		OutputSent: failed.OutputSent, GenerationID: failed.GenerationID,
	}
	for _, one := range failed.Violations {
		described.Violations = append(described.Violations, violation(one))
	}
	return described
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
