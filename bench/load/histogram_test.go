package main

import (
	"math"
	"testing"
)

func TestPercentilesAreWithinOnePercent(t *testing.T) {
	var h histogram
	for value := int64(1); value <= 1_000_000; value++ {
		h.add(value * 1_000)
	}

	seen := h.summary()

	for _, test := range []struct{ seen, wanted float64 }{
		{seen.P50, 500_000}, {seen.P90, 900_000}, {seen.P99, 990_000},
		{seen.Max, 1_000_000}, {seen.Mean, 500_000.5},
	} {
		if math.Abs(test.seen-test.wanted) > test.wanted/100 {
			t.Errorf("%g, not %g", test.seen, test.wanted)
		}
	}
	if seen.N != 1_000_000 {
		t.Error(seen.N)
	}
}

func TestEachValueIsNearTheMiddleOfItsBucket(t *testing.T) {
	for value := int64(0); value < math.MaxInt64/3; value = value*3/2 + 1 {
		bucket := bucketOf(uint64(value))
		if middle := middleOf(bucket); math.Abs(float64(middle-value)) > float64(value)/200 {
			t.Errorf("%d is in bucket %d, whose middle is %d", value, bucket, middle)
		}
	}
	if bucket := bucketOf(math.MaxUint64); bucket != bucketCount-1 {
		t.Errorf("the last bucket is %d of %d", bucket, bucketCount)
	}
}

func TestFewValuesAreSummarized(t *testing.T) {
	var h histogram
	if seen := h.summary(); seen != (summary{}) {
		t.Errorf("of none: %+v", seen)
	}
	h.add(-5)
	h.add(3_000_000)
	if seen := h.summary(); seen.P50 != 0 || seen.P99 != 3_000 || seen.Max != 3_000 || seen.N != 2 {
		t.Errorf("of two: %+v", seen)
	}
}
