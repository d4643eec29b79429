package main

import (
	"sync"
	"sync/atomic"

	"github.com/eudai/eudai/bench/wire"
)

const abortsMax = 10_000

// abort is a stream whose client left: the script's id, and CLOCK_MONOTONIC when that was noticed.
type abort struct {
	ID int64 `json:"id"`
	Ns int64 `json:"ns"`
}

// counts counts since the start of the process. Requests that only load are not counted.
type counts struct {
	requests, tokens, finished, aborted atomic.Int64

	mu     sync.Mutex
	aborts []abort // the last ones
}

// report is the answer of /counts.
type report struct {
	Requests int64   `json:"requests"`
	Tokens   int64   `json:"tokens"`
	Open     int64   `json:"open"`
	Finished int64   `json:"finished"`
	Aborted  int64   `json:"aborted"`
	Aborts   []abort `json:"aborts"`
}

func (c *counts) begin() { c.requests.Add(1) }

func (c *counts) end(id int64, err error) {
	if err == nil {
		c.finished.Add(1)
		return
	}
	ended := abort{id, wire.Now()}
	c.aborted.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.aborts) == 2*abortsMax {
		c.aborts = append(c.aborts[:0], c.aborts[abortsMax:]...)
	}
	c.aborts = append(c.aborts, ended)
}

func (c *counts) report() report {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The ended ones are read first, so that Open is not negative.
	finished, aborted := c.finished.Load(), c.aborted.Load()
	requests := c.requests.Load()
	last := c.aborts[max(0, len(c.aborts)-abortsMax):]
	return report{
		Requests: requests,
		Tokens:   c.tokens.Load(),
		Open:     requests - finished - aborted,
		Finished: finished,
		Aborted:  aborted,
		Aborts:   append([]abort{}, last...),
	}
}
