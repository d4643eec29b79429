package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/eudai/eudai/bench/wire"
)

const waitMax = 10 * time.Second

func serve(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(newHandler())
	t.Cleanup(server.Close)
	return server.URL
}

func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

func countsOf(t *testing.T, url string) report {
	t.Helper()
	response, err := http.Get(url + "/counts")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var counted report
	if err := json.NewDecoder(response.Body).Decode(&counted); err != nil {
		t.Fatal(err)
	}
	return counted
}

type line struct {
	Response string
	Message  struct{ Content string }
	Choices  []struct {
		Delta, Message struct{ Content string }
	}
	Done       bool
	DoneReason string `json:"done_reason"`
	EvalCount  int    `json:"eval_count"`
}

func (l line) text() string {
	text := l.Response + l.Message.Content
	for _, choice := range l.Choices {
		text += choice.Delta.Content + choice.Message.Content
	}
	return text
}

// linesOf decodes an answer of NDJSON, of server-sent events, or of one JSON object.
func linesOf(t *testing.T, answer string) (lines []line) {
	t.Helper()
	for _, text := range strings.Split(answer, "\n") {
		text = strings.TrimPrefix(text, "data: ")
		if text == "" || text == "[DONE]" {
			continue
		}
		var decoded line
		if err := json.Unmarshal([]byte(text), &decoded); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		lines = append(lines, decoded)
	}
	return lines
}

func TestEachRouteWritesTheTokensOfTheScript(t *testing.T) {
	url := serve(t)
	const messages = `"messages":[{"role":"user","content":"tokens=9"},` +
		`{"role":"assistant","content":"x"},{"role":"user","content":"a\ntokens=3 id=5"}]`
	const parts = `"messages":[{"role":"user","content":[{"type":"text","text":"tokens=3"}]}]`
	for _, test := range []struct {
		route, body string
		lines       int // with text
	}{
		{"/api/generate", `{"prompt":"tokens=3"}`, 3},
		{"/api/generate", `{"prompt":"tokens=3 interval_us=500","stream":true}`, 3},
		{"/api/generate", `{"prompt":"tokens=3","stream":false}`, 1},
		{"/api/chat", `{` + messages + `}`, 3},
		{"/api/chat", `{` + messages + `,"stream":false}`, 1},
		{"/v1/chat/completions", `{` + messages + `,"stream":true}`, 3},
		{"/v1/chat/completions", `{` + parts + `,"stream":true}`, 3},
		{"/v1/chat/completions", `{` + messages + `}`, 1},
	} {
		status, answer := post(t, url+test.route, test.body)
		var reader wire.TokenReader
		withText := 0
		lines := linesOf(t, answer)
		for _, one := range lines {
			if one.text() != "" {
				withText++
			}
			if _, lost, err := reader.Read(one.text()); lost != 0 || err != nil {
				t.Errorf("%s %s: lost %d, %v", test.route, test.body, lost, err)
			}
		}
		lost, err := reader.End(3)
		if status != http.StatusOK || lost != 0 || err != nil || withText != test.lines {
			t.Errorf("%s %s: %d, lost %d, %v\n%s", test.route, test.body, status, lost, err, answer)
		}
		if last := lines[len(lines)-1]; strings.HasPrefix(test.route, "/api") &&
			(!last.Done || last.DoneReason != "stop" || last.EvalCount != 3) {
			t.Errorf("%s %s ends with %+v", test.route, test.body, last)
		}
		if strings.Contains(test.route, "v1") && strings.Contains(test.body, "true") !=
			strings.HasSuffix(answer, "data: [DONE]\n\n") {
			t.Errorf("%s %s ends with %s", test.route, test.body, answer)
		}
	}
	if counted := countsOf(t, url); counted.Requests != 8 || counted.Finished != 8 ||
		counted.Tokens != 24 || counted.Open != 0 || counted.Aborted != 0 {
		t.Errorf("%+v", counted)
	}
}

func TestARequestWithoutPromptLoads(t *testing.T) {
	url := serve(t)
	for route, body := range map[string]string{
		"/api/generate": `{"model":"bench"}`,
		"/api/chat":     `{"model":"bench","messages":[]}`,
	} {
		status, answer := post(t, url+route, body)
		if status != http.StatusOK || linesOf(t, answer)[0].DoneReason != "load" {
			t.Errorf("%s: %d %s", route, status, answer)
		}
	}
	if counted := countsOf(t, url); counted.Requests != 0 {
		t.Errorf("%+v", counted)
	}
}

func TestABadRequestIsRefused(t *testing.T) {
	url := serve(t)
	for _, test := range []struct{ route, body, wanted string }{
		{"/api/generate", `{"prompt":"tokens=0"}`, "tokens=0"},
		{"/api/generate", `{"prompt":`, "the body is not valid"},
		{"/v1/chat/completions", `{"messages":[]}`, "no message of the user"},
	} {
		status, answer := post(t, url+test.route, test.body)
		if status != http.StatusBadRequest || !strings.Contains(answer, test.wanted) {
			t.Errorf("%s: %d %s", test.body, status, answer)
		}
	}
}

func TestTheCatalogIsJSONWithOneLoadedModel(t *testing.T) {
	url := serve(t)
	for route, body := range catalog {
		var decoded struct {
			Models []struct{ Name, Digest string }
		}
		err := json.Unmarshal([]byte(body), &decoded)
		switch route {
		case "GET /{$}":
		case "GET /api/tags", "GET /api/ps":
			if err != nil || len(decoded.Models) != 1 ||
				decoded.Models[0].Name != "bench:latest" || len(decoded.Models[0].Digest) != 64 {
				t.Errorf("%s: %+v, %v", route, decoded, err)
			}
		default:
			if err != nil {
				t.Errorf("%s: %v", route, err)
			}
		}
	}
	if status, answer := post(t, url+"/api/show", `{}`); status != http.StatusOK ||
		!strings.Contains(answer, "sha256-") {
		t.Errorf("%d %s", status, answer)
	}
}

func TestAClientThatLeavesIsCounted(t *testing.T) {
	url := serve(t)
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/generate",
		strings.NewReader(`{"prompt":"tokens=2 interval_us=60000000 id=42"}`))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if counted := countsOf(t, url); counted.Open != 1 || counted.Tokens != 1 {
		t.Errorf("before: %+v", counted)
	}
	before := wire.Now()
	leave()

	counted := countsOf(t, url)
	for deadline := time.Now().Add(waitMax); counted.Aborted == 0; counted = countsOf(t, url) {
		if time.Now().After(deadline) {
			t.Fatalf("not noticed: %+v", counted)
		}
		time.Sleep(time.Millisecond)
	}
	if counted.Open != 0 || counted.Finished != 0 || len(counted.Aborts) != 1 ||
		counted.Aborts[0].ID != 42 || counted.Aborts[0].Ns < before {
		t.Errorf("after: %+v", counted)
	}
}

func TestTheLastAbortsAreKept(t *testing.T) {
	var counted counts
	for id := range int64(3*abortsMax + 1) {
		counted.begin()
		counted.end(id, io.ErrClosedPipe)
	}

	seen := counted.report()

	if len(seen.Aborts) != abortsMax || seen.Aborts[abortsMax-1].ID != 3*abortsMax ||
		seen.Aborts[0].ID != 2*abortsMax+1 || seen.Aborted != 3*abortsMax+1 {
		t.Errorf("%d aborts, from %+v", len(seen.Aborts), seen.Aborts[0])
	}
}
