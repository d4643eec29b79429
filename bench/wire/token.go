package wire

import "fmt"

// The text of a token is " <number>:<time>", with leading zeros, so that each is unique and has the
// same length.
const (
	TokenBytes   = 1 + numberDigits + 1 + timeDigits
	numberDigits = 6
	timeDigits   = 16
	timeModulus  = 1e16 // nanoseconds, 115 days
)

// PutToken writes the text of a token into TokenBytes bytes.
func PutToken(text []byte, number int, ns int64) {
	text[0] = ' '
	putDigits(text[1:1+numberDigits], int64(number))
	text[1+numberDigits] = ':'
	putDigits(text[TokenBytes-timeDigits:TokenBytes], ns%timeModulus)
}

// Age returns the nanoseconds between the stamp of a token and now. It is 0 if the clocks of two
// processes differ by more than the token took.
func Age(stamp, now int64) int64 {
	age := now%timeModulus - stamp
	if age < -timeModulus/2 {
		age += timeModulus
	}
	return max(age, 0)
}

// TokenReader reads the text of one stream. Texts may contain several tokens, or a part of one.
type TokenReader struct {
	rest   string
	next   int
	stamps []int64
}

// Read returns the stamps of the tokens that are complete with this text, and the number of tokens
// that are missing before them. The stamps are valid until the next call.
func (r *TokenReader) Read(text string) (stamps []int64, lost int, err error) {
	if r.rest != "" {
		text = r.rest + text
	}
	r.stamps = r.stamps[:0]
	for ; len(text) >= TokenBytes; text = text[TokenBytes:] {
		number, stamp, ok := parseToken(text[:TokenBytes])
		if !ok {
			return nil, 0, fmt.Errorf("%q is not the text of a token", text[:TokenBytes])
		}
		if number < r.next {
			return nil, 0, fmt.Errorf("token %d arrived after token %d", number, r.next-1)
		}
		lost += number - r.next
		r.next = number + 1
		r.stamps = append(r.stamps, stamp)
	}
	r.rest = text
	return r.stamps, lost, nil
}

// End returns the number of tokens that are missing at the end of a complete stream.
func (r *TokenReader) End(tokens int) (lost int, err error) {
	switch {
	case r.rest != "":
		return 0, fmt.Errorf("the stream ended within a token, after %q", r.rest)
	case r.next > tokens:
		return 0, fmt.Errorf("the stream has %d tokens more than asked for", r.next-tokens)
	}
	return tokens - r.next, nil
}

func parseToken(text string) (number int, stamp int64, ok bool) {
	first, ok1 := parseDigits(text[1 : 1+numberDigits])
	second, ok2 := parseDigits(text[TokenBytes-timeDigits:])
	return int(first), second, ok1 && ok2 && text[0] == ' ' && text[1+numberDigits] == ':'
}

func putDigits(text []byte, value int64) {
	for i := len(text) - 1; i >= 0; i-- {
		text[i] = byte('0' + value%10)
		value /= 10
	}
}

func parseDigits(text string) (value int64, ok bool) {
	for _, digit := range []byte(text) {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		value = value*10 + int64(digit-'0')
	}
	return value, true
}
