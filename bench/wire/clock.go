// Package wire is what the fake Ollama and the load generator agree on: the script in a prompt, the
// text of each token, and the clock of its stamp.
package wire

import (
	"log"
	"time"

	"golang.org/x/sys/unix"
)

var origin, originNs = readOrigin()

// Now returns CLOCK_MONOTONIC in nanoseconds, which all processes of a machine share.
//
// It adds the time since the start of the process to a first reading, because time.Since does not
// make a system call.
func Now() int64 { return originNs + int64(time.Since(origin)) }

// readOrigin reads both clocks at the same moment, to within a fraction of a microsecond.
func readOrigin() (at time.Time, ns int64) {
	shortest := time.Hour
	for range 100 {
		var reading unix.Timespec
		before := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &reading); err != nil {
			log.Fatalf("cannot read CLOCK_MONOTONIC: %v", err)
		}
		if spent := time.Since(before); spent < shortest {
			shortest, at, ns = spent, before.Add(spent/2), reading.Nano()
		}
	}
	return at, ns
}
