package container

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"strata/internal/errdef"
)

func TestFrames(t *testing.T) {
	a, b := net.Pipe()
	sender, receiver := &frames{conn: a}, &frames{conn: b}
	go func() {
		sender.send(frameStdout, []byte("hello"), 0)
		sender.send(frameStdin, nil, 0)
		sender.send(frameExit, exitPayload(-1), time.Second)
		a.Close()
	}()
	if k, p, err := receiver.receive(); k != frameStdout || string(p) != "hello" || err != nil {
		t.Errorf("%v %q %v", k, p, err)
	}
	if k, p, err := receiver.receive(); k != frameStdin || len(p) != 0 || err != nil {
		t.Errorf("%v %q %v", k, p, err)
	}
	k, p, err := receiver.receive()
	if code, e := exitCode(p); k != frameExit || code != -1 || err != nil || e != nil {
		t.Errorf("%v %d %v %v", k, code, err, e)
	}
	if _, _, err := receiver.receive(); !errors.Is(err, io.EOF) {
		t.Errorf("end: %v", err)
	}
}

func TestFrameTooLong(t *testing.T) {
	a, b := net.Pipe()
	go func() {
		var head [8]byte
		binary.BigEndian.PutUint32(head[4:], maxFrame+1)
		a.Write(head[:])
	}()
	if _, _, err := (&frames{conn: b}).receive(); !errors.Is(err, errdef.ErrLimit) {
		t.Errorf("got %v", err)
	}
}

func TestDetachKeys(t *testing.T) {
	for spec, want := range map[string]string{"": "\x10\x11", "a": "a", "ctrl-@,ctrl-_": "\x00\x1f", "a,b,c": "abc"} {
		if got, err := ParseDetachKeys(spec); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", spec, got, err)
		}
	}
	for _, spec := range []string{"ctrl-1", "shift-a", "ab", "a,"} {
		if _, err := ParseDetachKeys(spec); !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

// However the input is cut, all before the keys passes and nothing after them; what could begin them is held back.
func TestDetachFilter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.StringMatching(`[ab]{1,4}`).Draw(t, "keys")
		input := rapid.StringMatching(`[abc]{0,30}`).Draw(t, "input")
		d := detachFilter{keys: []byte(keys)}
		var sent bytes.Buffer
		detached := false
		for rest := []byte(input); len(rest) > 0 && !detached; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			var p []byte
			p, detached = d.pass(rest[:n])
			sent.Write(p)
			rest = rest[n:]
		}
		at := strings.Index(input, keys)
		if detached != (at >= 0) {
			t.Fatalf("detached %v, keys at %d", detached, at)
		}
		if detached && sent.String() != input[:at] {
			t.Fatalf("sent %q, want %q", sent.String(), input[:at])
		}
		if held := keys[:d.seen]; !detached && sent.String()+held != input {
			t.Fatalf("sent %q and held %q of %q", sent.String(), held, input)
		}
	})
}
