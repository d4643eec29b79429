package main

import (
	"sync"
	"sync/atomic"

	"github.com/eudai/eudai/bench/wire"
)

const (
	errorTextsMax  = 10
	errorCharsMax  = 200
	otherErrors    = "other errors"
	cancelsSeenMax = 10_000 // as many as the fake Ollama reports
)

// recorder counts what happens while it is measuring.
type recorder struct {
	measuring atomic.Bool

	calls, failed, cancelled, tokens, messages, lost atomic.Int64
	ttft, added, gap                                 histogram

	mu      sync.Mutex
	errors  map[string]int64
	cancels map[int64]int64 // by stream, when it was cancelled
}

func newRecorder() *recorder {
	return &recorder{errors: map[string]int64{}, cancels: map[int64]int64{}}
}

func (r *recorder) fail(err error) {
	if !r.measuring.Load() {
		return
	}
	r.failed.Add(1)
	text := err.Error()
	text = text[:min(len(text), errorCharsMax)]
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.errors[text]; !known && len(r.errors) >= errorTextsMax-1 {
		text = otherErrors
	}
	r.errors[text]++
}

func (r *recorder) cancel(stream, ns int64) {
	if !r.measuring.Load() {
		return
	}
	r.cancelled.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cancels) < cancelsSeenMax {
		r.cancels[stream] = ns
	}
}

// reception records one stream.
type reception struct {
	*recorder
	reader      wire.TokenReader
	begun, last int64
	// Called after the first text.
	onFirst func()
}

func (r *recorder) begin() *reception {
	return &reception{recorder: r, begun: wire.Now(), onFirst: func() {}}
}

// receive records a message of the stream. Messages without text are ignored.
func (r *reception) receive(text string) error {
	if text == "" {
		return nil
	}
	now := wire.Now()
	stamps, lost, err := r.reader.Read(text)
	if err != nil {
		return err
	}
	first := r.last == 0
	if r.measuring.Load() {
		r.messages.Add(1)
		r.tokens.Add(int64(len(stamps)))
		r.lost.Add(int64(lost))
		for _, stamp := range stamps {
			r.added.add(wire.Age(stamp, now))
		}
		if first {
			r.ttft.add(now - r.begun)
		} else {
			r.gap.add(now - r.last)
		}
	}
	r.last = now
	if first {
		r.onFirst()
	}
	return nil
}

// complete records that the stream ended successfully.
func (r *reception) complete(tokens int) {
	lost, err := r.reader.End(tokens)
	switch {
	case err != nil:
		r.fail(err)
	case r.measuring.Load():
		r.calls.Add(1)
		r.lost.Add(int64(lost))
	}
}
