package tool

import (
	"strconv"
	"strings"
)

// unescape resolves the backslash escapes of echo -e, printf and tr. "\\" other than before a known letter stays.
func unescape(s string) string {
	s, _ = unescapeUntilC(s)
	return s
}

// unescapeUntilC is unescape that also knows "\c": the output ends there.
func unescapeUntilC(s string) (text string, ended bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch c := s[i]; {
		case strings.IndexByte(`abefnrtv\`, c) >= 0:
			b.WriteByte("\a\b\x1b\f\n\r\t\v\\"[strings.IndexByte(`abefnrtv\`, c)])
		case c == 'c':
			return b.String(), true
		case c == 'x':
			i += number(&b, s[i+1:], 16, 2)
		case c >= '0' && c <= '7':
			n := number(&b, s[i:], 8, 3)
			if c == '0' && n == 3 && i+3 < len(s) && s[i+3] >= '0' && s[i+3] <= '7' && s[i+1] <= '3' {
				text := b.String() // echo's form has a zero and then three digits
				b.Reset()
				b.WriteString(text[:len(text)-1])
				n = 1 + number(&b, s[i+1:], 8, 3)
			}
			i += n - 1
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String(), false
}

// number writes the byte whose number s starts with and gives the count of digits used.
func number(b *strings.Builder, s string, base, most int) int {
	n := 0
	for n < len(s) && n < most {
		if _, err := strconv.ParseUint(s[n:n+1], base, 8); err != nil {
			break
		}
		n++
	}
	if v, err := strconv.ParseUint(s[:n], base, 16); err == nil {
		b.WriteByte(byte(v))
	}
	return n
}
