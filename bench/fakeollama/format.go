package main

import (
	"fmt"
	"time"
)

// format is how a route writes an answer. No text needs escapes, because tokens have none.
type format struct {
	contentType string
	// The text around a token in a stream.
	before, after string
	// Whether an absent "stream" asks for a stream.
	streamsByDefault bool
	// The end of a stream of this many tokens.
	end func(tokens int, spent time.Duration) string
	// The answer that is not streamed.
	whole func(text []byte, tokens int, spent time.Duration) string
	// The answer to a request without a prompt, which only loads the model. Empty if the route
	// refuses it.
	load string
}

const (
	ndjson       = "application/x-ndjson"
	lineHead     = `{"model":"bench:latest","created_at":"2026-01-01T00:00:00Z",`
	promptTokens = 8
)

var (
	generateFormat = ollamaFormat(lineHead+`"response":"`, `"`)
	chatFormat     = ollamaFormat(lineHead+`"message":{"role":"assistant","content":"`, `"}`)
)

// ollamaFormat is the format of one of Ollama's own routes, whose lines have a text between before
// and quote.
func ollamaFormat(before, quote string) format {
	whole := func(text []byte, tokens int, spent time.Duration) string {
		return fmt.Sprintf(`%s%s%s,"done":true,"done_reason":"stop","total_duration":%d,`+
			`"load_duration":1000,"prompt_eval_count":%d,"prompt_eval_duration":1000,`+
			`"eval_count":%d,"eval_duration":%d}`+"\n",
			before, text, quote, spent+time.Microsecond, promptTokens, tokens, spent)
	}
	return format{
		contentType:      ndjson,
		before:           before,
		after:            quote + `,"done":false}` + "\n",
		streamsByDefault: true,
		end: func(tokens int, spent time.Duration) string {
			return whole(nil, tokens, spent)
		},
		whole: whole,
		load:  before + quote + `,"done":true,"done_reason":"load"}` + "\n",
	}
}

const (
	eventHead = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,` +
		`"model":"bench:latest","system_fingerprint":"fp_ollama","choices":[{"index":0,` +
		`"delta":{"role":"assistant","content":"`
	lastEvents = eventHead + `"},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"
)

var openAIFormat = format{
	contentType: "text/event-stream",
	before:      eventHead,
	after:       `"},"finish_reason":null}]}` + "\n\n",
	end:         func(int, time.Duration) string { return lastEvents },
	whole: func(text []byte, tokens int, _ time.Duration) string {
		return fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion","created":1767225600,`+
			`"model":"bench:latest","system_fingerprint":"fp_ollama","choices":[{"index":0,`+
			`"message":{"role":"assistant","content":"%s"},"finish_reason":"stop"}],`+
			`"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`+"\n",
			text, promptTokens, tokens, promptTokens+tokens)
	},
}
