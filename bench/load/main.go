// Command load makes calls to a server in front of the fake Ollama, and prints what it measured as
// one JSON object.
//
// It writes "begin" and "end" to stderr when the measurement begins and ends, so that its caller
// can read the server's CPU time at these moments.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/eudai/eudai/bench/wire"
)

const (
	exitFailed = 1
	exitUsage  = 2
	// Less frequent garbage collections disturb the measurement less.
	gcPercent = 400
	// How long calls may take to end after their cancellation.
	endTimeout = 5 * time.Second
)

// report is the result. All numbers are of the measurement alone.
type report struct {
	Driver          string           `json:"driver"`
	Cell            string           `json:"cell"`
	Streams         int              `json:"streams"`
	TokensPerStream int              `json:"tokens_per_stream"`
	IntervalUs      int64            `json:"interval_us"`
	Seconds         float64          `json:"seconds"`
	Calls           int64            `json:"calls"`
	Failed          int64            `json:"failed"`
	Errors          map[string]int64 `json:"errors"`
	Tokens          int64            `json:"tokens"`
	Messages        int64            `json:"messages"`
	Lost            int64            `json:"lost"`
	TTFTUs          summary          `json:"ttft_us"`
	AddedUs         summary          `json:"added_us"`
	GapUs           summary          `json:"gap_us"`
	Cancelled       int64            `json:"cancelled"`
	NotClosed       int64            `json:"not_closed"`
	CloseUs         summary          `json:"close_us"`
	BeginNs         int64            `json:"begin_ns"`
	EndNs           int64            `json:"end_ns"`
}

func main() {
	debug.SetGCPercent(gcPercent)
	o, err := parseOptions(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	exitIf(err, exitUsage)
	d, err := newDriver(o)
	exitIf(err, exitUsage)
	measured, err := run(newLoad(o, d))
	exitIf(err, exitFailed)
	exitIf(json.NewEncoder(os.Stdout).Encode(measured), exitFailed)
}

func exitIf(err error, code int) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(code)
	}
}

// run warms up, measures, and ends all calls.
func run(l *load) (report, error) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	l.start(ctx)
	time.Sleep(l.warmUp)
	fmt.Fprintln(os.Stderr, "begin")
	begin := wire.Now()
	l.recorder.measuring.Store(true)
	time.Sleep(l.duration)
	l.recorder.measuring.Store(false)
	end := wire.Now()
	fmt.Fprintln(os.Stderr, "end")
	stop()
	if !ended(l) {
		return report{}, fmt.Errorf("calls did not end within %s of their cancellation", endTimeout)
	}
	measured := reportOf(l)
	measured.BeginNs, measured.EndNs = begin, end
	measured.Seconds = time.Duration(end - begin).Seconds()
	if l.counts != "" {
		closed, notClosed, err := closeTimes(l.counts, l.recorder.cancels)
		if err != nil {
			return report{}, fmt.Errorf("-counts: %w", err)
		}
		measured.CloseUs, measured.NotClosed = closed.summary(), notClosed
	}
	return measured, nil
}

// ended waits for all calls, and returns whether they ended in time.
func ended(l *load) bool {
	done := make(chan struct{})
	go func() {
		l.workers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(endTimeout):
		return false
	}
}

func reportOf(l *load) report {
	r := l.recorder
	return report{
		Driver: l.options.driver, Cell: l.cell, Streams: l.streams, TokensPerStream: l.tokens,
		IntervalUs: l.interval.Microseconds(),
		Calls:      r.calls.Load(), Failed: r.failed.Load(), Errors: r.errors,
		Tokens: r.tokens.Load(), Messages: r.messages.Load(), Lost: r.lost.Load(),
		TTFTUs: r.ttft.summary(), AddedUs: r.added.summary(), GapUs: r.gap.summary(),
		Cancelled: r.cancelled.Load(),
	}
}
