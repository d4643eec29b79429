package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	lineBytes    = 4 << 10
	lineBytesMax = 1 << 20
	// Less than the time after which servers close a connection that is not used.
	idleTimeout = 2 * time.Second
)

// protocol is how requests and answers look over HTTP.
type protocol interface {
	body(model, prompt string) ([]byte, error)
	// read decodes a line of the answer. last: the answer is complete.
	read(line []byte) (text string, last bool, err error)
}

// httpDriver has a connection for each running call, and keeps it for later calls.
type httpDriver struct {
	client     *http.Client
	protocol   protocol
	url, model string
	headers    map[string]string
}

func newHTTPDriver(o options, path string, p protocol) *httpDriver {
	if o.path != "" {
		path = o.path
	}
	transport := &http.Transport{
		MaxIdleConnsPerHost: runningShareMax * o.streams,
		IdleConnTimeout:     idleTimeout,
		DisableCompression:  true,
	}
	return &httpDriver{
		client: &http.Client{Transport: transport}, protocol: p,
		url: "http://" + o.target + path, model: o.model, headers: o.headers,
	}
}

func (d *httpDriver) generate(
	ctx context.Context, prompt string, receive func(text string) error,
) error {
	answer, err := d.post(ctx, prompt)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, errorCharsMax))
		return fmt.Errorf("%s: %s", answer.Status, text)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(make([]byte, 0, lineBytes), lineBytesMax)
	complete := false
	// The lines after the last one are read too, so that the connection can be kept.
	for lines.Scan() {
		text, last, err := d.protocol.read(lines.Bytes())
		if err != nil {
			return err
		}
		complete = complete || last
		if err := receive(text); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if !complete {
		return errors.New("the answer ended early")
	}
	return nil
}

func (d *httpDriver) post(ctx context.Context, prompt string) (*http.Response, error) {
	body, err := d.protocol.body(d.model, prompt)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	for name, value := range d.headers {
		request.Header.Set(name, value)
	}
	return d.client.Do(request)
}

// ndjson is Ollama's /api/generate.
type ndjson struct{}

func (ndjson) body(model, prompt string) ([]byte, error) {
	return json.Marshal(map[string]any{"model": model, "prompt": prompt, "stream": true})
}

func (ndjson) read(line []byte) (text string, last bool, err error) {
	if text := plainText(line, responseField); text != "" && bytes.Contains(line, notDone) {
		return text, false, nil
	}
	var decoded struct {
		Response string          `json:"response"`
		Done     bool            `json:"done"`
		Error    json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(line, &decoded); err != nil {
		return "", false, fmt.Errorf("malformed line: %w", err)
	}
	return decoded.Response, decoded.Done, reported(decoded.Error)
}

// sse is OpenAI's /v1/chat/completions: a JSON object in each event, then [DONE].
type sse struct{}

func (sse) body(model, prompt string) ([]byte, error) {
	return json.Marshal(map[string]any{
		"model": model, "stream": true,
		"messages": []any{map[string]string{"role": "user", "content": prompt}},
	})
}

func (sse) read(line []byte) (text string, last bool, err error) {
	data, isData := bytes.CutPrefix(line, []byte("data:"))
	if !isData {
		return "", false, nil // an empty line, a comment, or the name of an event
	}
	data = bytes.TrimSpace(data)
	if string(data) == "[DONE]" {
		return "", true, nil
	}
	if text := plainText(data, contentField); text != "" {
		return text, false, nil
	}
	var decoded struct {
		Choices []struct {
			Delta struct {
				Content string `json:"content"`
			} `json:"delta"`
		} `json:"choices"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(data, &decoded); err != nil {
		return "", false, fmt.Errorf("malformed event: %w", err)
	}
	for _, choice := range decoded.Choices {
		text += choice.Delta.Content
	}
	return text, false, reported(decoded.Error)
}

var (
	responseField = []byte(`"response":"`)
	contentField  = []byte(`"content":"`)
	notDone       = []byte(`"done":false`)
)

// plainText returns the text after field up to the next quote, or an empty text if it has escapes.
// Decoding the JSON of each token would take a tenth of the core that all programs but the server
// share; so only the other lines are decoded.
func plainText(line, field []byte) string {
	_, rest, _ := bytes.Cut(line, field)
	text, _, quoted := bytes.Cut(rest, []byte{'"'})
	if !quoted || bytes.IndexByte(text, '\\') >= 0 {
		return ""
	}
	return string(text)
}

// reported returns the error that a line of the answer reports, if any.
func reported(value json.RawMessage) error {
	if len(value) == 0 || string(value) == "null" {
		return nil
	}
	return fmt.Errorf("the server reported %s", value)
}
