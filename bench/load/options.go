package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/eudai/eudai/bench/wire"
)

const (
	streamsMax     = 10_000
	connectionsMax = 1_000
)

// options are the flags.
type options struct {
	driver, target, path, model, cell string
	counts                            string
	streams, tokens, connections      int
	interval, warmUp, duration        time.Duration
	cancelShare                       float64
	headers                           map[string]string
}

// length is how long a stream takes if nothing delays it.
func (o options) length() time.Duration {
	return time.Duration(o.tokens) * o.interval
}

// parseOptions reads the flags. The error says which is invalid.
func parseOptions(arguments []string, output io.Writer) (options, error) {
	o := options{headers: map[string]string{}}
	var interval int64
	var warmUp, duration float64
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&o.driver, "driver", "grpc", "grpc, ndjson or sse")
	flags.StringVar(&o.target, "target", "", "`host:port` of the server")
	flags.StringVar(&o.path, "path", "", "path of the route, if it is not the protocol's own")
	flags.StringVar(&o.model, "model", "bench", "name of the model")
	flags.StringVar(&o.cell, "cell", "held", "held: streams that are replaced when they end; "+
		"short: callers of unpaced calls; idle: one call at a time, with pauses")
	flags.IntVar(&o.streams, "streams", 1, "streams or callers at a time")
	flags.IntVar(&o.tokens, "tokens", 1, "tokens of each stream")
	flags.Int64Var(&interval, "interval-us", 0, "microseconds between tokens; 0: full speed")
	flags.Float64Var(&warmUp, "warmup-s", 2, "seconds before the measurement")
	flags.Float64Var(&duration, "duration-s", 10, "seconds of the measurement")
	flags.IntVar(&o.connections, "connections", 1, "gRPC connections")
	flags.Float64Var(&o.cancelShare, "cancel-share", 0, "share of the streams to cancel, 0 to 1")
	flags.StringVar(&o.counts, "counts", "", "`URL` of the fake Ollama's /counts; measures how "+
		"long after a cancellation it notices")
	flags.Func("header", "`name: value` to send; may be repeated", o.addHeader)
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	o.interval = time.Duration(interval) * time.Microsecond
	o.warmUp, o.duration = seconds(warmUp), seconds(duration)
	if o.cell != "held" {
		o.interval = 0
	}
	if o.cell == "idle" {
		o.streams = 1
	}
	return o, o.check(flags.Args())
}

func (o options) addHeader(text string) error {
	name, value, found := strings.Cut(text, ":")
	if !found {
		return errors.New("it has no colon")
	}
	o.headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
	return nil
}

func (o options) check(rest []string) error {
	_, _, targetError := net.SplitHostPort(o.target)
	for _, rule := range []struct {
		holds   bool
		message string
	}{
		{len(rest) == 0, fmt.Sprintf("unknown arguments %q", rest)},
		{targetError == nil, fmt.Sprintf("-target %q is not host:port", o.target)},
		{o.cell == "held" || o.cell == "short" || o.cell == "idle",
			fmt.Sprintf("-cell %q is not held, short or idle", o.cell)},
		{o.streams >= 1 && o.streams <= streamsMax,
			fmt.Sprintf("-streams is not from 1 to %d", streamsMax)},
		{o.tokens >= 1 && o.tokens <= wire.TokensMax,
			fmt.Sprintf("-tokens is not from 1 to %d", wire.TokensMax)},
		{o.connections >= 1 && o.connections <= connectionsMax,
			fmt.Sprintf("-connections is not from 1 to %d", connectionsMax)},
		{o.interval >= 0 && o.interval <= time.Minute, "-interval-us is not from 0 to 60000000"},
		{o.warmUp >= 0 && o.warmUp <= time.Hour, "-warmup-s is not from 0 to 3600"},
		{o.duration > 0 && o.duration <= time.Hour, "-duration-s is not from more than 0 to 3600"},
		{o.cancelShare >= 0 && o.cancelShare <= 1, "-cancel-share is not from 0 to 1"},
	} {
		if !rule.holds {
			return errors.New(rule.message)
		}
	}
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
