package main

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Each power of two has this many buckets, so that a value is at most 0.4 % from its bucket's
// middle.
const (
	bucketBits      = 7
	bucketsPerPower = 1 << bucketBits
	bucketCount     = (64 - bucketBits + 1) * bucketsPerPower
)

// histogram counts durations in nanoseconds. It has a fixed size, and any goroutine may add.
type histogram struct {
	buckets      [bucketCount]atomic.Int64
	n, sum, most atomic.Int64
}

// summary describes a histogram, in microseconds.
type summary struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
	Mean float64 `json:"mean"`
	N    int64   `json:"n"`
}

func (h *histogram) add(ns int64) {
	ns = max(ns, 0)
	h.buckets[bucketOf(uint64(ns))].Add(1)
	h.n.Add(1)
	h.sum.Add(ns)
	for most := h.most.Load(); ns > most && !h.most.CompareAndSwap(most, ns); {
		most = h.most.Load()
	}
}

func (h *histogram) summary() summary {
	n := h.n.Load()
	if n == 0 {
		return summary{}
	}
	return summary{
		P50: h.percentile(50), P90: h.percentile(90), P99: h.percentile(99),
		Max: micros(h.most.Load()), Mean: micros(h.sum.Load()) / float64(n), N: n,
	}
}

// percentile returns the value, in microseconds, that this percentage of all values do not exceed.
func (h *histogram) percentile(percentage float64) float64 {
	rank := int64(math.Ceil(percentage / 100 * float64(h.n.Load())))
	for bucket := range h.buckets {
		if rank -= h.buckets[bucket].Load(); rank <= 0 {
			return micros(min(middleOf(bucket), h.most.Load()))
		}
	}
	return micros(h.most.Load())
}

// bucketOf returns the bucket of a value. The first two powers of two have a bucket for each value.
func bucketOf(value uint64) int {
	shift := max(bits.Len64(value)-bucketBits-1, 0)
	return shift<<bucketBits + int(value>>shift)
}

// middleOf returns the value in the middle of a bucket.
func middleOf(bucket int) int64 {
	shift := max(bucket>>bucketBits-1, 0)
	first := int64(bucket-shift<<bucketBits) << shift
	return first + int64(1)<<shift>>1
}

func micros(ns int64) float64 { return float64(ns) / float64(time.Microsecond) }
