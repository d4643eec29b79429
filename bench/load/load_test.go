package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eudai/eudai/bench/wire"
)

func token(number int) string {
	text := make([]byte, wire.TokenBytes)
	wire.PutToken(text, number, wire.Now())
	return string(text)
}

// measuring returns a recorder that records.
func measuring() *recorder {
	r := newRecorder()
	r.measuring.Store(true)
	return r
}

func TestAStreamIsRecorded(t *testing.T) {
	r := measuring()
	stream := r.begin()

	for _, text := range []string{"", token(0), token(1) + token(2), "", token(5)} {
		if err := stream.receive(text); err != nil {
			t.Fatal(err)
		}
	}
	stream.complete(8)

	if r.calls.Load() != 1 || r.failed.Load() != 0 || r.tokens.Load() != 4 ||
		r.messages.Load() != 3 || r.lost.Load() != 4 {
		t.Errorf("%d calls, %d failed, %d tokens, %d messages, %d lost",
			r.calls.Load(), r.failed.Load(), r.tokens.Load(), r.messages.Load(), r.lost.Load())
	}
	if r.ttft.n.Load() != 1 || r.added.n.Load() != 4 || r.gap.n.Load() != 2 {
		t.Errorf("%d first tokens, %d ages, %d gaps",
			r.ttft.n.Load(), r.added.n.Load(), r.gap.n.Load())
	}
}

func TestOnlyTheMeasurementCounts(t *testing.T) {
	r := newRecorder()
	stream := r.begin()
	if err := stream.receive(token(1)); err != nil {
		t.Fatal(err)
	}
	r.fail(io.EOF)
	r.cancel(1, 1)
	r.measuring.Store(true)
	if err := stream.receive(token(2)); err != nil {
		t.Fatal(err)
	}
	r.measuring.Store(false)
	stream.complete(9)

	if r.tokens.Load() != 1 || r.lost.Load() != 0 || r.ttft.n.Load() != 0 || r.gap.n.Load() != 1 {
		t.Errorf("%d tokens, %d lost", r.tokens.Load(), r.lost.Load())
	}
	if r.calls.Load() != 0 || r.failed.Load() != 0 || r.cancelled.Load() != 0 {
		t.Errorf("%d calls, %d failed", r.calls.Load(), r.failed.Load())
	}
}

func TestAStreamWithMoreTokensThanAskedForFails(t *testing.T) {
	r := measuring()
	stream := r.begin()
	if err := stream.receive(token(0) + token(1)); err != nil {
		t.Fatal(err)
	}
	stream.complete(1)

	if r.calls.Load() != 0 || r.failed.Load() != 1 {
		t.Errorf("%d calls, %v", r.calls.Load(), r.errors)
	}
}

func TestErrorTextsAreLimited(t *testing.T) {
	r := measuring()
	for letter := 'a'; letter <= 'z'; letter++ {
		r.fail(errors.New(strings.Repeat(string(letter), 10*errorCharsMax)))
	}

	if len(r.errors) != errorTextsMax || r.errors[otherErrors] != 26-errorTextsMax+1 ||
		r.failed.Load() != 26 {
		t.Errorf("%d texts, %d others", len(r.errors), r.errors[otherErrors])
	}
	for text := range r.errors {
		if len(text) > errorCharsMax {
			t.Errorf("a text has %d characters", len(text))
		}
	}
}

func TestFirstStartsAreSpread(t *testing.T) {
	for _, test := range []struct {
		slot           int
		length, warmUp time.Duration
		wanted         time.Duration
	}{
		{0, time.Second, time.Minute, 0},
		{2, time.Second, time.Minute, 500 * time.Millisecond},
		{2, time.Hour, 2 * time.Second, time.Second},
	} {
		if at := firstStart(test.slot, 4, test.length, test.warmUp); at != test.wanted {
			t.Errorf("%+v: %s", test, at)
		}
	}
}

// fakeDriver answers each call with a function.
type fakeDriver func(ctx context.Context, receive func(string) error) error

func (d fakeDriver) generate(
	ctx context.Context, _ string, receive func(string) error,
) error {
	return d(ctx, receive)
}

// callOnce makes one call that is measured.
func callOnce(o options, d fakeDriver) *recorder {
	l := newLoad(o, d)
	l.recorder.measuring.Store(true)
	_ = l.call(context.Background())
	return l.recorder
}

func TestACancelledCallIsNeitherCompleteNorFailed(t *testing.T) {
	o := options{tokens: 2, interval: time.Millisecond, cancelShare: 1}
	r := callOnce(o, func(ctx context.Context, receive func(string) error) error {
		if err := receive(token(0)); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})

	if r.cancelled.Load() != 1 || len(r.cancels) != 1 || r.calls.Load() != 0 ||
		r.failed.Load() != 0 || r.lost.Load() != 0 {
		t.Errorf("%d cancelled, %v", r.cancelled.Load(), r.errors)
	}
}

func TestACallThatFailsIsCounted(t *testing.T) {
	r := callOnce(options{tokens: 2}, func(context.Context, func(string) error) error {
		return errors.New("refused")
	})

	if r.failed.Load() != 1 || r.errors["refused"] != 1 {
		t.Errorf("%v", r.errors)
	}
}

func TestASlowServerDoesNotStopTheScheduleBeforeTheLimit(t *testing.T) {
	const streams = 2
	ctx, stop := context.WithCancel(context.Background())
	var mu sync.Mutex
	started := 0
	hanging := fakeDriver(func(ctx context.Context, _ func(string) error) error {
		mu.Lock()
		started++
		mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	})
	l := newLoad(options{cell: "held", streams: streams, tokens: 1, interval: time.Millisecond},
		hanging)
	l.recorder.measuring.Store(true)

	l.start(ctx)
	for deadline := time.Now().Add(10 * time.Second); l.recorder.failed.Load() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no start was refused")
		}
		time.Sleep(time.Millisecond)
	}
	l.recorder.measuring.Store(false)
	stop()
	l.workers.Wait()

	if started != runningShareMax*streams || l.recorder.errors[errTooManyRunning.Error()] == 0 {
		t.Errorf("%d started, %v", started, l.recorder.errors)
	}
}

func TestCancellationsAreMatchedWithTheirNotice(t *testing.T) {
	closed, notClosed := matched(
		map[int64]int64{1: 1_000, 2: 2_000, 3: 3_000}, map[int64]int64{1: 5_000, 3: 5_000, 4: 1})

	if seen := closed.summary(); notClosed != 1 || seen.N != 2 || seen.Max != 4 {
		t.Errorf("%d not closed, %+v", notClosed, seen)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for wanted, arguments := range map[string]string{
		`-target "" is not host:port`:         "",
		`-target "here" is not host:port`:     "-target here",
		"-cell \"hold\" is not held":          "-target a:1 -cell hold",
		"-streams is not from 1":              "-target a:1 -streams 0",
		"-tokens is not from 1":               "-target a:1 -tokens 1000001",
		"-interval-us is not from 0":          "-target a:1 -interval-us -1",
		"-connections is not from 1":          "-target a:1 -connections 0",
		"-duration-s is not from more than 0": "-target a:1 -duration-s 0",
		"-warmup-s is not from 0":             "-target a:1 -warmup-s -1",
		"-cancel-share is not from 0":         "-target a:1 -cancel-share 2",
		"it has no colon":                     "-target a:1 -header x",
		"unknown arguments":                   "-target a:1 more",
	} {
		_, err := parseOptions(strings.Fields(arguments), io.Discard)
		if err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%s: %v", arguments, err)
		}
	}
	if _, err := newDriver(options{driver: "http"}); err == nil ||
		!strings.Contains(err.Error(), `-driver "http" is not`) {
		t.Error(err)
	}
}

func TestOptionsAreRead(t *testing.T) {
	o, err := parseOptions([]string{"-target", "a:1", "-cell", "idle", "-streams", "9",
		"-interval-us", "2000", "-warmup-s", "0.5", "-header", "Authorization: Bearer x"}, io.Discard)

	if err != nil || o.streams != 1 || o.interval != 0 || o.warmUp != 500*time.Millisecond ||
		o.headers["Authorization"] != "Bearer x" {
		t.Errorf("%+v, %v", o, err)
	}
}
