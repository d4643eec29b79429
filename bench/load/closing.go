package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

const (
	closeTimeout = 5 * time.Second
	pollInterval = 100 * time.Millisecond
)

// closeTimes compares when streams were cancelled with when the fake Ollama noticed it. cancels has
// the times by stream. notClosed is the number of streams that it still did not notice 5 s after
// the end of the run.
func closeTimes(url string, cancels map[int64]int64) (*histogram, int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	for {
		noticed, err := abortsOf(ctx, url)
		if err != nil {
			return nil, 0, err
		}
		closed, notClosed := matched(cancels, noticed)
		if notClosed == 0 || !wait(ctx, pollInterval) {
			return closed, notClosed, nil
		}
	}
}

// matched returns the times between the cancellations and their notice, and the number of
// cancellations without one.
func matched(cancels, noticed map[int64]int64) (*histogram, int64) {
	closed, notClosed := &histogram{}, int64(0)
	for stream, cancelled := range cancels {
		if at, found := noticed[stream]; found {
			closed.add(at - cancelled)
		} else {
			notClosed++
		}
	}
	return closed, notClosed
}

// abortsOf returns the times by stream when the fake Ollama noticed that the client had left.
func abortsOf(ctx context.Context, url string) (map[int64]int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var counts struct {
		Aborts []struct{ ID, Ns int64 }
	}
	if err := json.NewDecoder(answer.Body).Decode(&counts); err != nil {
		return nil, err
	}
	noticed := map[int64]int64{}
	for _, one := range counts.Aborts {
		noticed[one.ID] = one.Ns
	}
	return noticed, nil
}
