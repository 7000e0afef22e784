package build

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"strings"
)

const (
	// leastSecret is the size from which on a value is searched for: shorter ones are found anywhere.
	leastSecret = 8
	// mostPattern bounds what of a value is compared; whoever has that much of it has it.
	mostPattern = 4096
)

// pattern is a form of a secret.
type pattern struct {
	text       []byte
	secret, as string // the secret's id, and in which form it is
}

// matcher finds any of several patterns in one pass (after Wu and Manber): the pair of bytes at the end of a window tells
// how far the next place can be at which a pattern ends there, most often as far as the shortest pattern is long.
type matcher struct {
	patterns []pattern
	shift    [1 << 16]uint8
	ends     map[uint16][]int // patterns whose window ends so
	longest  int
}

// newMatcher gives nil when there is nothing to search for.
func newMatcher(patterns []pattern) *matcher {
	if len(patterns) == 0 {
		return nil
	}
	m := &matcher{patterns: patterns, ends: map[uint16][]int{}}
	for i := range m.shift {
		m.shift[i] = leastSecret - 1
	}
	for i, p := range patterns {
		m.longest = max(m.longest, len(p.text))
		for end := 2; end <= leastSecret; end++ {
			pair := uint16(p.text[end-2])<<8 | uint16(p.text[end-1])
			m.shift[pair] = min(m.shift[pair], uint8(leastSecret-end))
			if end == leastSecret {
				m.ends[pair] = append(m.ends[pair], i)
			}
		}
	}
	return m
}

// find gives the first pattern in data, nil without one.
func (m *matcher) find(data []byte) *pattern {
	for i := leastSecret - 1; i < len(data); {
		pair := uint16(data[i-1])<<8 | uint16(data[i])
		if s := m.shift[pair]; s > 0 {
			i += int(s)
			continue
		}
		for _, n := range m.ends[pair] {
			if bytes.HasPrefix(data[i-leastSecret+1:], m.patterns[n].text) {
				return &m.patterns[n]
			}
		}
		i++
	}
	return nil
}

// secretPatterns are the forms of one secret; none for a value too short to be searched for.
func secretPatterns(id string, value []byte) []pattern {
	whole := strings.TrimRight(string(value), "\r\n")
	found := valuePatterns(id, "as it is", whole)
	lines := strings.Split(whole, "\n")
	if len(lines) == 1 {
		return found
	}
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "-----BEGIN ") && !strings.HasPrefix(line, "-----END ") { // which every key has
			found = append(found, valuePatterns(id, "one of its lines", line)...)
		}
	}
	return found
}

func valuePatterns(id, as, text string) []pattern {
	if len(text) < leastSecret {
		return nil
	}
	seen := map[string]bool{}
	var found []pattern
	add := func(form, as string) {
		form = form[:min(len(form), mostPattern)]
		if len(form) >= leastSecret && !seen[form] {
			seen[form] = true
			found = append(found, pattern{[]byte(form), id, as})
		}
	}
	add(text, as)
	for _, escaped := range []string{url.QueryEscape(text), url.PathEscape(text)} {
		add(escaped, "URL-encoded")
		add(lowerHex(escaped), "URL-encoded")
	}
	for before := range 3 {
		add(encoded(base64.StdEncoding, text, before), "in base64")
		add(encoded(base64.URLEncoding, text, before), "in base64")
	}
	return found
}

// wrapped is how many bytes of a value are in base64's first line, where that is cut at 64 characters.
const wrapped = 48

// encoded is what of text's base64 does not depend on what stands before and after it, when before bytes, or three more each
// time, do.
func encoded(e *base64.Encoding, text string, before int) string {
	text = text[:min(len(text), wrapped)]
	if before > 0 {
		text = text[3-before:]
	}
	return e.EncodeToString([]byte(text[:len(text)/3*3]))
}

// lowerHex writes %2F as %2f.
func lowerHex(escaped string) string {
	b := []byte(escaped)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], bytes.ToLower(b[i+1:i+3]))
			i += 2
		}
	}
	return string(b)
}
