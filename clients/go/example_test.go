package eudai_test

import (
	"context"
	"fmt"
	"log"

	"github.com/eudai/eudai/clients/go"
	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
)

func Example() {
	client, err := eudai.Dial("127.0.0.1:50051")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	request := &eudaiv1.GenerateRequest{
		Model: "gemma3:270m",
		Input: &eudaiv1.GenerateRequest_Prompt{Prompt: "The capital of France is"},
	}
	for text, err := range eudai.Text(client.Generate(context.Background(), request)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(text)
	}
}
