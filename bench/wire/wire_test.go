package wire

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAScriptIsFoundInAnyText(t *testing.T) {
	script := Script{Tokens: 500, Interval: 2 * time.Millisecond, Prefill: time.Second, ID: 7}

	for prompt, wanted := range map[string]Script{
		script.String():                        script,
		"### User:\n" + script.String() + "\n": script,
		`[{"type":"text","text":"tokens=3"}]`:  {Tokens: 3},
		"tokens=3 and then tokens=4":           {Tokens: 4},
		"hello":                                {Tokens: 1},
		`say\ntokens=3\ninterval_us=2000`:      {Tokens: 3, Interval: 2 * time.Millisecond},
		"":                                     {Tokens: 1},
	} {
		if found, err := ParseScript(prompt); err != nil || found != wanted {
			t.Errorf("%q: %+v, %v", prompt, found, err)
		}
	}
}

func TestAnInvalidScriptIsRefused(t *testing.T) {
	for prompt, wanted := range map[string]string{
		"tokens=0":                        "tokens=0 is not from 1 to 1000000",
		"tokens=1000001":                  "tokens=1000001",
		"interval_us=60000001":            "interval_us=60000001",
		"prefill_ms=99999999999999999999": "prefill_ms=99999999999999999999",
	} {
		if _, err := ParseScript(prompt); err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%q: %v", prompt, err)
		}
	}
}

func TestTokensAreDueAtEqualIntervalsFromTheStart(t *testing.T) {
	script := Script{Tokens: 3, Interval: 2 * time.Millisecond, Prefill: time.Second}

	if due := script.Due(2); due != time.Second+4*time.Millisecond {
		t.Error(due)
	}
}

func token(number int, ns int64) string {
	text := make([]byte, TokenBytes)
	PutToken(text, number, ns)
	return string(text)
}

func TestATokenHasAFixedWidth(t *testing.T) {
	if text := token(42, 1234567890123); text != " 000042:0001234567890123" {
		t.Errorf("%q", text)
	}
}

func TestTokensAreReadAcrossTexts(t *testing.T) {
	all := token(0, 10) + token(1, 11) + token(2, 12)
	for cut := range all {
		var reader TokenReader
		var seen []int64
		for _, text := range []string{all[:cut], all[cut:]} {
			stamps, lost, err := reader.Read(text)
			if lost != 0 || err != nil {
				t.Fatalf("cut at %d: lost %d, %v", cut, lost, err)
			}
			seen = append(seen, stamps...)
		}
		if lost, err := reader.End(3); lost != 0 || err != nil || len(seen) != 3 || seen[2] != 12 {
			t.Errorf("cut at %d: %v, lost %d, %v", cut, seen, lost, err)
		}
	}
}

func TestLostTokensAreCounted(t *testing.T) {
	var reader TokenReader

	if _, lost, err := reader.Read(token(2, 0) + token(5, 0)); lost != 4 || err != nil {
		t.Errorf("lost %d, %v", lost, err)
	}
	if lost, err := reader.End(10); lost != 4 || err != nil {
		t.Errorf("at the end: lost %d, %v", lost, err)
	}
}

func TestATextThatIsNotOfTokensIsAnError(t *testing.T) {
	for wanted, texts := range map[string][]string{
		"is not the text of a token":      {strings.Repeat("x", TokenBytes)},
		"token 1 arrived after token 1":   {token(1, 0), token(1, 0)},
		"2 tokens more than asked for":    {token(5, 0)},
		"the stream ended within a token": {token(0, 0), " 0000"},
	} {
		var reader TokenReader
		var failure error
		for _, text := range texts {
			if _, _, err := reader.Read(text); err != nil {
				failure = err
			}
		}
		if failure == nil {
			_, failure = reader.End(4)
		}
		if failure == nil || !strings.Contains(failure.Error(), wanted) {
			t.Errorf("%s: %v", wanted, failure)
		}
	}
}

func TestTheAgeOfATokenIsRightWhenTheStampOverflows(t *testing.T) {
	for _, test := range []struct{ stamp, now, wanted int64 }{
		{100, 350, 250},
		{timeModulus - 100, timeModulus + 50, 150},
		{100, 90, 0},
	} {
		if age := Age(test.stamp, test.now); age != test.wanted {
			t.Errorf("%+v: %d", test, age)
		}
	}
}

func TestTheClockIsTheMachinesMonotonicClock(t *testing.T) {
	const tolerance = int64(time.Millisecond) // of the first reading
	var reading unix.Timespec
	before := Now()
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &reading); err != nil {
		t.Fatal(err)
	}
	if after := Now(); before > reading.Nano()+tolerance || reading.Nano() > after+tolerance {
		t.Errorf("%d, then %d, then %d", before, reading.Nano(), after)
	}
}
