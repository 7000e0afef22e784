package render

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for _, c := range []struct{ in, clean, log string }{
		{"plain\ttext\n", "plain\ttext\n", "plain\ttext\n"},
		{"\x1b[31mred\x1b[0m", "red", "\x1b[31mred\x1b[0m\x1b[0m"},
		{"\x1b[38:2:1:2:3mx", "x", "\x1b[38:2:1:2:3mx\x1b[0m"},
		{"a\x1b[2Jb\x1b[1;1Hc", "abc", "abc"},
		{"\x1b[?25lx", "x", "x"},
		{"\x1b[>4;1mx", "x", "x"}, // xterm's key modifiers end in m too
		{"\x1b]0;title\ax", "x", "x"},
		{"\x1b]8;;http://e\x1b\\link\x1b]8;;\x1b\\", "link", "link"},
		{"\x1bP1$r0m\x1b\\x", "x", "x"},
		{"\x1b(Bx\x1b=y\x1bcz", "xyz", "xyz"},
		{"bell\a back\b del\x7f nul\x00", "bell back del nul", "bell back del nul"},
		{"c1 \u009b31m \x9b31m", "c1 31m \ufffd31m", "c1 31m \ufffd31m"},
		{"\u202eevil\u2066", "evil", "evil"},
		{"ünï 日本 \u200d", "ünï 日本 \u200d", "ünï 日本 \u200d"},
		{"\x1b", "", ""},
		{"\x1b[", "", ""},
		{"\x1b[31", "", ""},
		{"\x1b]never ends\nnext", "\nnext", "\nnext"},
		{"\x1b[3\nm", "\nm", "\nm"},
		{"\x1b\x1b[31mx", "x", "\x1b[31mx\x1b[0m"},
	} {
		if got := Clean(c.in); got != c.clean {
			t.Errorf("Clean(%q) = %q, want %q", c.in, got, c.clean)
		}
		if got := cleanLog(c.in); got != c.log {
			t.Errorf("cleanLog(%q) = %q, want %q", c.in, got, c.log)
		}
	}
}

// FuzzClean holds that nothing which steers a terminal comes through, and that clean text stays as it is.
func FuzzClean(f *testing.F) {
	f.Add("\x1b[31mx\x1b]0;t\a\x9b\x1bP\x1b\\\u202e")
	f.Add("\x1b\x1b[\x1b]")
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if !utf8.ValidString(got) {
			t.Fatalf("Clean(%q) = %q is no UTF-8", s, got)
		}
		if strings.ContainsFunc(got, steers) {
			t.Fatalf("Clean(%q) = %q steers", s, got)
		}
		if again := Clean(got); again != got {
			t.Fatalf("Clean is not stable: %q, then %q", got, again)
		}
		if without := Clean(cleanLog(s)); without != got {
			t.Fatalf("cleanLog(%q) differs in more than colours: %q, %q", s, without, got)
		}
	})
}

// FuzzLines holds that the cuts in a log do not matter and that nothing grows beyond its bound.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\r\nb\rc\n\nd"), 3)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		cut = min(max(cut, 0), len(data))
		read := func(parts ...[]byte) (lines []string) {
			var l lineReader
			emit := func(s string) { lines = append(lines, s) }
			for _, p := range parts {
				l.add(p, emit)
			}
			l.end(emit)
			return lines
		}
		whole, parts := read(data), read(data[:cut], data[cut:])
		if strings.Join(whole, "\n") != strings.Join(parts, "\n") {
			t.Fatalf("%q cut at %d: %q, %q", data, cut, whole, parts)
		}
		for _, line := range whole {
			if len(line) > maxLine || strings.ContainsAny(line, "\r\n") {
				t.Fatalf("%q gives line %q", data, line)
			}
		}
	})
}

func TestLines(t *testing.T) {
	var got []string
	emit := func(s string) { got = append(got, s) }
	var l lineReader
	l.add([]byte("one\r\n10%\r20%\r\n\nlong "), emit)
	l.add([]byte("tail\r"), emit)
	l.end(emit)
	l.end(emit)
	if want := "one|20%||long tail"; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got = nil
	l.add(make([]byte, 3*maxLine), emit)
	if len(got) != 3 {
		t.Errorf("a line without end gave %d pieces, want 3", len(got))
	}
}
