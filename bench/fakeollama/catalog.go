package main

import "strings"

const (
	digest  = "be0c4b3c45e4d3b1d0f4a2e7c9a8b7665544332211ffeeddccbbaa9988776655"
	weights = "sha256-ab0c4b3c45e4d3b1d0f4a2e7c9a8b7665544332211ffeeddccbbaa9988776655"
	details = `"details":{"parent_model":"","format":"gguf","family":"bench","families":["bench"],` +
		`"parameter_size":"1M","quantization_level":"F16"}`
	identity = `"name":"bench:latest","model":"bench:latest","size":1000000,"digest":"` + digest + `",`
)

// catalog has the answers of the routes that do not generate: one model, which is always loaded.
var catalog = map[string]string{
	"GET /{$}":         "Ollama is running",
	"GET /api/version": `{"version":"0.32.15"}`,
	"GET /api/status":  `{"cloud":{"disabled":true,"source":"env"}}`,
	"GET /api/tags": `{"models":[{` + identity + details +
		`,"modified_at":"2026-01-01T00:00:00Z","capabilities":["completion"]}]}`,
	"GET /api/ps": `{"models":[{` + identity + details +
		`,"expires_at":"2318-01-01T00:00:00Z","size_vram":1000000,"context_length":131072}]}`,
	"POST /api/show": strings.Join([]string{
		`{"modelfile":"FROM /models/blobs/` + weights + `\n"`,
		`"parameters":""`,
		`"template":"{{ .Prompt }}"`,
		details,
		`"model_info":{"general.architecture":"bench","bench.context_length":131072}`,
		`"capabilities":["completion"]`,
		`"modified_at":"2026-01-01T00:00:00Z"}`,
	}, ","),
	"GET /v1/models": `{"object":"list","data":[{"id":"bench:latest","object":"model",` +
		`"created":1767225600,"owned_by":"library"}]}`,
}
