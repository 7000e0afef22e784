package render

import (
	"strings"
	"unicode/utf8"
)

// Clean is s without anything that steers a terminal: escape sequences of every kind, control characters other than
// newline and tab, and the characters that turn the direction of writing. Bytes that are not UTF-8 become U+FFFD.
func Clean(s string) string { return clean(s, false) }

// cleanLog is [Clean] for a log line in the plain display: colours (SGR sequences) stay, and are ended with the line.
func cleanLog(s string) string {
	kept := clean(s, true)
	if strings.IndexByte(kept, esc) >= 0 {
		kept += "\x1b[0m"
	}
	return kept
}

// cleanCell is [Clean] for something that has to stay on one line and in one column.
func cleanCell(s string) string {
	if s = Clean(s); !strings.ContainsAny(s, "\r\n\t\v") { // setting a replacer up takes longer than all else
		return s
	}
	return strings.NewReplacer("\r\n", " ", "\n", " ", "\t", " ", "\v", " ").Replace(s)
}

const esc = 0x1b

func clean(s string, colours bool) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		if s[i] == esc {
			n := escapeLen(s[i:])
			if colours && isColour(s[i:i+n]) {
				b.WriteString(s[i : i+n])
			}
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if !steers(r) {
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// isPlain reports whether s is printable ASCII with newlines and tabs: the usual case needs no copy.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c >= 0x7f || c < ' ' && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}

// steers reports whether r acts on a terminal instead of being shown.
func steers(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < ' ', r >= 0x7f && r < 0xa0: // C0, DEL, C1
		return true
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069: // embeddings, overrides and isolates of direction
		return true
	}
	return false
}

// escapeLen is the length of the escape sequence that s begins with (ECMA-48, section 5). A sequence that does not end
// takes the rest of the line.
func escapeLen(s string) int {
	if len(s) < 2 {
		return len(s)
	}
	switch c := s[1]; {
	case c == '[':
		return 2 + spanUntil(s[2:], func(c byte) bool { return c >= 0x40 && c <= 0x7e })
	case strings.IndexByte("]PX^_", c) >= 0: // OSC, DCS, SOS, PM, APC: a string up to BEL or ESC \
		return 2 + stringLen(s[2:])
	case c >= 0x20 && c <= 0x2f:
		return 2 + spanUntil(s[2:], func(c byte) bool { return c >= 0x30 && c <= 0x7e })
	case c < ' ' || c >= 0x7f: // no sequence: the ESC alone goes
		return 1
	}
	return 2
}

// spanUntil counts the bytes up to and including the first that is final. A control character or a byte that is not ASCII
// breaks the sequence off and does not belong to it.
func spanUntil(s string, final func(byte) bool) int {
	for i := range len(s) {
		switch c := s[i]; {
		case final(c):
			return i + 1
		case c < ' ' || c >= 0x7f:
			return i
		}
	}
	return len(s)
}

// stringLen counts the bytes of a control string with its end. A newline breaks it off.
func stringLen(s string) int {
	for i := range len(s) {
		switch s[i] {
		case '\a':
			return i + 1
		case '\n':
			return i
		case esc:
			if i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
			return i
		}
	}
	return len(s)
}

// isColour reports whether seq is a complete SGR sequence: ESC [ digits and separators m.
func isColour(seq string) bool {
	params, ok := strings.CutPrefix(seq, "\x1b[")
	if !ok || !strings.HasSuffix(params, "m") {
		return false
	}
	return strings.Trim(params[:len(params)-1], "0123456789;:") == ""
}
