package wire

import (
	"fmt"
	"strings"
	"time"
)

// TokensMax is the limit of tokens of an answer, which have a number of six digits.
const TokensMax = 1_000_000

// Script describes the answer to a prompt. A prompt contains it in the format of String, with any
// text around it, and parts may be missing.
type Script struct {
	// The number of tokens, 1 to TokensMax. 1 if the prompt does not say it.
	Tokens int
	// The time between two tokens. 0: as fast as possible.
	Interval time.Duration
	// The time before the first token.
	Prefill time.Duration
	// A number by which the caller recognises the stream. 0 if the prompt does not say it.
	ID int64
}

// String returns the script as a prompt.
func (s Script) String() string {
	return fmt.Sprintf("tokens=%d interval_us=%d prefill_ms=%d id=%d",
		s.Tokens, s.Interval.Microseconds(), s.Prefill.Milliseconds(), s.ID)
}

// Due returns when a token is written, counted from the start of the answer. The tokens have the
// numbers 0 to Tokens-1.
func (s Script) Due(token int) time.Duration {
	return s.Prefill + time.Duration(token)*s.Interval
}

// ParseScript finds the script in a prompt. The error names the part that is invalid.
func ParseScript(prompt string) (Script, error) {
	parts := []struct {
		name          string
		value         int64
		minimum, most int64
	}{
		{"tokens", 1, 1, TokensMax},
		{"interval_us", 0, 0, time.Minute.Microseconds()},
		{"prefill_ms", 0, 0, time.Minute.Milliseconds()},
		{"id", 0, 0, 1 << 62},
	}
	for i := range parts {
		part := &parts[i]
		digits := digitsAfter(prompt, part.name)
		if digits == "" {
			continue
		}
		if _, err := fmt.Sscan(digits, &part.value); err != nil ||
			part.value < part.minimum || part.value > part.most {
			return Script{}, fmt.Errorf("the script's %s=%s is not from %d to %d",
				part.name, digits, part.minimum, part.most)
		}
	}
	return Script{
		Tokens:   int(parts[0].value),
		Interval: time.Duration(parts[1].value) * time.Microsecond,
		Prefill:  time.Duration(parts[2].value) * time.Millisecond,
		ID:       parts[3].value,
	}, nil
}

// digitsAfter returns the digits after the last "name=" of a text.
func digitsAfter(text, name string) string {
	at := strings.LastIndex(text, name+"=")
	if at < 0 {
		return ""
	}
	rest := text[at+len(name)+1:]
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		return rest
	}
	return rest[:end]
}
