package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"

	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type turn struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type ollamaRequest struct {
	Model    string `json:"model"`
	Prompt   string `json:"prompt,omitempty"`
	System   string `json:"system,omitempty"`
	Messages []turn `json:"messages,omitempty"`
	Stream   bool   `json:"stream"`
}

// encode returns the route and the body of Ollama's request. It knows prompts and conversations of
// text, and ignores options.
func encode(request *eudaiv1.GenerateRequest) (route string, body io.Reader, err error) {
	encoded := ollamaRequest{Model: request.GetModel(), Stream: true}
	switch input := request.GetInput().(type) {
	case *eudaiv1.GenerateRequest_Prompt:
		route, encoded.Prompt, encoded.System = "/api/generate", input.Prompt, request.GetSystem()
	case *eudaiv1.GenerateRequest_Conversation:
		route = "/api/chat"
		if request.GetSystem() != "" {
			encoded.Messages = append(encoded.Messages, turn{"system", request.GetSystem()})
		}
		for _, message := range input.Conversation.GetMessages() {
			encoded.Messages = append(encoded.Messages, turnFrom(message))
		}
	default:
		return "", nil, status.Error(codes.InvalidArgument, "set prompt or conversation")
	}
	data, err := json.Marshal(encoded)
	if err != nil {
		return "", nil, status.Error(codes.Internal, err.Error())
	}
	return route, bytes.NewReader(data), nil
}

func turnFrom(message *eudaiv1.Message) turn {
	var text strings.Builder
	for _, part := range message.GetParts() {
		text.WriteString(part.GetText())
	}
	role := strings.ToLower(strings.TrimPrefix(message.GetRole().String(), "ROLE_"))
	return turn{role, text.String()}
}
