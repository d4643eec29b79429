package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/eudai/eudai/bench/wire"
)

const bodyBytesMax = 16 << 20

// request has the fields of all routes that matter here.
type request struct {
	Prompt   string `json:"prompt"`
	Messages []struct {
		Role string `json:"role"`
		// A text, or a list of parts. A script in it has no characters that JSON escapes.
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Stream *bool `json:"stream"`
}

// prompt returns the text that contains the script, or an empty text.
func (r *request) prompt() string {
	for i := len(r.Messages) - 1; i >= 0; i-- {
		if r.Messages[i].Role == "user" {
			return string(r.Messages[i].Content)
		}
	}
	return r.Prompt
}

// generator answers the routes that generate.
type generator struct{ counts counts }

func (g *generator) handler(f format) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var asked request
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyBytesMax))
		if err == nil {
			err = json.Unmarshal(body, &asked)
		}
		if err != nil {
			refuse(w, "the body is not valid: "+err.Error())
			return
		}
		streams := f.streamsByDefault
		if asked.Stream != nil {
			streams = *asked.Stream
		}
		g.answer(w, r, f, asked.prompt(), streams)
	}
}

func (g *generator) answer(
	w http.ResponseWriter, r *http.Request, f format, prompt string, streams bool,
) {
	script, err := wire.ParseScript(prompt)
	switch {
	case err != nil:
		refuse(w, err.Error())
	case prompt == "" && f.load == "":
		refuse(w, "messages has no message of the user")
	case prompt == "":
		w.Header().Set("Content-Type", f.contentType)
		_, _ = io.WriteString(w, f.load)
	default:
		g.counts.begin()
		write := g.writeWhole
		if streams {
			write = g.writeStream
		}
		g.counts.end(script.ID, write(r.Context(), w, f, script))
	}
}

// writeStream writes each token when it is due, according to the start of the answer. At full speed
// only the first token is flushed, and the others fill the buffers of net/http.
func (g *generator) writeStream(
	ctx context.Context, w http.ResponseWriter, f format, script wire.Script,
) error {
	w.Header().Set("Content-Type", f.contentType)
	controller := http.NewResponseController(w)
	line := []byte(f.before + strings.Repeat(" ", wire.TokenBytes) + f.after)
	text := line[len(f.before):][:wire.TokenBytes]
	begun, timer := time.Now(), time.NewTimer(time.Hour)
	defer timer.Stop()
	for token := range script.Tokens {
		if err := waitUntil(ctx, timer, begun.Add(script.Due(token))); err != nil {
			return err
		}
		wire.PutToken(text, token, wire.Now())
		if _, err := w.Write(line); err != nil {
			return err
		}
		g.counts.tokens.Add(1)
		if token == 0 || script.Interval > 0 {
			if err := controller.Flush(); err != nil {
				return err
			}
		}
	}
	_, err := io.WriteString(w, f.end(script.Tokens, time.Since(begun)))
	return err
}

// writeWhole writes all tokens when the last one is complete.
func (g *generator) writeWhole(
	ctx context.Context, w http.ResponseWriter, f format, script wire.Script,
) error {
	begun, timer := time.Now(), time.NewTimer(time.Hour)
	defer timer.Stop()
	if err := waitUntil(ctx, timer, begun.Add(script.Due(script.Tokens))); err != nil {
		return err
	}
	text := make([]byte, script.Tokens*wire.TokenBytes)
	for token := range script.Tokens {
		wire.PutToken(text[token*wire.TokenBytes:], token, wire.Now())
	}
	g.counts.tokens.Add(int64(script.Tokens))
	w.Header().Set("Content-Type", "application/json")
	_, err := io.WriteString(w, f.whole(text, script.Tokens, time.Since(begun)))
	return err
}

// waitUntil returns an error if the client left before.
func waitUntil(ctx context.Context, timer *time.Timer, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err()
	}
	timer.Reset(wait)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func refuse(w http.ResponseWriter, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": message})
}
