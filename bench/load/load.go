package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eudai/eudai/bench/wire"
)

const (
	idlePause  = 20 * time.Millisecond // between the calls of the cell idle
	errorPause = 10 * time.Millisecond // after a failed call of a closed loop
	// At most this many times the streams asked for run at once if the server is too slow.
	runningShareMax = 4
	// Cancellations are spread over this share of a stream, so that few streams end before.
	cancelledPartMax = 0.8
)

var errTooManyRunning = errors.New("not started: the server is too slow, and 4 times the streams " +
	"asked for are running")

// load makes calls until its context ends.
type load struct {
	options
	driver   driver
	recorder *recorder
	running  atomic.Int64
	nextID   atomic.Int64
	workers  sync.WaitGroup
}

func newLoad(o options, d driver) *load {
	l := &load{options: o, driver: d, recorder: newRecorder()}
	l.nextID.Store(wire.Now()) // unique among the runs against one fake Ollama
	return l
}

// start starts the calls of the cell. Wait for l.workers after ctx ended.
func (l *load) start(ctx context.Context) {
	for slot := range l.streams {
		l.workers.Go(func() {
			if l.cell == "held" && l.interval > 0 {
				l.startOnSchedule(ctx, slot)
			} else {
				l.callInTurn(ctx)
			}
		})
	}
}

// callInTurn is a closed loop: each call starts when the last one has ended.
func (l *load) callInTurn(ctx context.Context) {
	for ctx.Err() == nil {
		pause := time.Duration(0)
		if l.call(ctx) != nil {
			pause = errorPause
		}
		if l.cell == "idle" {
			pause = idlePause
		}
		wait(ctx, pause)
	}
}

// startOnSchedule is an open loop: a call starts whether or not the last one has ended.
func (l *load) startOnSchedule(ctx context.Context, slot int) {
	at := time.Now().Add(firstStart(slot, l.streams, l.length(), l.warmUp))
	for ; wait(ctx, time.Until(at)); at = at.Add(l.length()) {
		if l.running.Add(1) > int64(runningShareMax*l.streams) {
			l.running.Add(-1)
			l.recorder.fail(errTooManyRunning)
			continue
		}
		l.workers.Go(func() {
			defer l.running.Add(-1)
			_ = l.call(ctx) // it is recorded
		})
	}
}

// firstStart spreads the first starts over the length of a stream, or over the warm-up if that is
// shorter, so that all streams are running when it ends.
func firstStart(slot, streams int, length, warmUp time.Duration) time.Duration {
	return min(length, warmUp) * time.Duration(slot) / time.Duration(streams)
}

// call makes one call, and records it.
func (l *load) call(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	script := wire.Script{Tokens: l.tokens, Interval: l.interval, ID: l.nextID.Add(1)}
	var cancelled atomic.Int64
	reception := l.recorder.begin()
	if l.cancelShare > 0 && rand.Float64() < l.cancelShare {
		reception.onFirst = func() {
			part := cancelledPartMax * rand.Float64()
			time.AfterFunc(time.Duration(part*float64(l.length())), func() {
				cancelled.Store(wire.Now())
				cancel()
			})
		}
	}
	err := l.driver.generate(ctx, script.String(), reception.receive)
	switch {
	case err == nil:
		reception.complete(l.tokens)
	case cancelled.Load() != 0:
		l.recorder.cancel(script.ID, cancelled.Load())
	default:
		l.recorder.fail(err)
	}
	return err
}

// wait returns false if ctx ended before.
func wait(ctx context.Context, pause time.Duration) bool {
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}
