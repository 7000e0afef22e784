package container

import (
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"strata/internal/errdef"
)

// ParseDetachKeys reads docker's notation: keys with commas between, each one character or "ctrl-" and a letter or one
// of @ [ \ ] ^ _. "" gives ctrl-p,ctrl-q.
func ParseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		s = "ctrl-p,ctrl-q"
	}
	var keys []byte
	for key := range strings.SplitSeq(s, ",") {
		c, ok := parseKey(key)
		if !ok {
			return nil, fmt.Errorf("detach keys %q: unknown key %q: %w", s, key, errdef.ErrInvalid)
		}
		keys = append(keys, c)
	}
	return keys, nil
}

func parseKey(key string) (byte, bool) {
	if len(key) == 1 {
		return key[0], true
	}
	rest, ok := strings.CutPrefix(strings.ToLower(key), "ctrl-")
	if !ok || len(rest) != 1 {
		return 0, false
	}
	c := rest[0]
	if c >= 'a' && c <= 'z' || strings.IndexByte("@[\\]^_", c) >= 0 {
		return c & 0x1f, true
	}
	return 0, false
}

// detachFilter looks for the detach keys in what is typed and holds back what may be their beginning.
type detachFilter struct {
	keys []byte
	seen int // so many of keys were typed last
}

// pass gives what of p is to be sent on, and whether the keys are complete; what follows them is dropped.
func (d *detachFilter) pass(p []byte) (send []byte, detach bool) {
	if len(d.keys) == 0 {
		return p, false
	}
	for _, c := range p {
		if c == d.keys[d.seen] {
			if d.seen++; d.seen == len(d.keys) {
				d.seen = 0
				return send, true
			}
			continue
		}
		// Not the keys: what was held back goes out, but its end together with c may begin them anew.
		held := append(append([]byte(nil), d.keys[:d.seen]...), c)
		d.seen = overlap(held, d.keys)
		send = append(send, held[:len(held)-d.seen]...)
	}
	return send, false
}

// overlap is the length of the longest end of typed that is a proper beginning of keys.
func overlap(typed, keys []byte) int {
	for n := min(len(typed), len(keys)-1); n > 0; n-- {
		if string(typed[len(typed)-n:]) == string(keys[:n]) {
			return n
		}
	}
	return 0
}

// rawTerminal makes f raw if it is a terminal.
func rawTerminal(f *os.File) (restore func(), err error) {
	if f == nil || !term.IsTerminal(int(f.Fd())) {
		return func() {}, nil
	}
	old, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return func() { _ = term.Restore(int(f.Fd()), old) }, nil // fails when the terminal is gone
}

// terminalSize is the size of the first terminal among the streams, zeros when none is one.
func terminalSize(st Streams) (width, height uint16) {
	for _, f := range []*os.File{st.Out, st.In, st.Err} {
		if f == nil {
			continue
		}
		if ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			return ws.Col, ws.Row
		}
	}
	return 0, 0
}

// onResize calls fn whenever our terminal's size changes, until stop.
func onResize(fn func()) (stop func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGWINCH)
	quit := make(chan struct{})
	go func() {
		for {
			select {
			case <-ch:
				fn()
			case <-quit:
				return
			}
		}
	}()
	return func() {
		signal.Stop(ch)
		close(quit)
	}
}
