package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// typed starts a command with a terminal and gives what its user types on, what was shown, and how it ended.
func typed(t *testing.T, s *Store, rec Record, script string) (in *os.File, text func() string, done chan Result) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, text := capture(t)
	done = make(chan Result, 1)
	go func() {
		defer r.Close()
		res, err := s.Exec(context.Background(), rec, ExecOptions{
			Args: []string{"sh", "-c", script}, Tty: true, Streams: Streams{In: r, Out: out}, DetachKeys: "ctrl-a,x",
		})
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	t.Cleanup(func() { w.Close() })
	return w, text, done
}

func TestExecDetach(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, Config{Cmd: []string{"sleep", "1000"}}, HostConfig{}))
	mark := s.Dir(rec.ID) + "/upper/tmp/mark"
	in, text, done := typed(t, s, rec, "read x; echo got $x; sleep 0.3; test -t 1 && echo $x > /tmp/mark")
	fmt.Fprint(in, "word\n")
	fmt.Fprint(in, "\x01x")
	if res := <-done; !res.Detached {
		t.Errorf("%+v", res)
	}
	text()
	eventually(t, "the command going on", func() bool { raw, _ := os.ReadFile(mark); return string(raw) == "word\n" })
	eventually(t, "its shim's end", func() bool { return len(processesOf(execName+"\x00"+ShortID(rec.ID))) == 0 })
}

// A caller that goes away without a word, as a killed one does.
func TestExecLeft(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, Config{Cmd: []string{"sleep", "1000"}}, HostConfig{}))
	for _, tty := range []bool{true, false} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		out, text := capture(t)
		name := fmt.Sprintf("mark-%v", tty)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := s.Exec(ctx, rec, ExecOptions{
				Args: []string{"sh", "-c", "echo up > /tmp/up-" + name + "; cat; echo > /tmp/over-" + name + "; sleep 0.3; echo end; echo done > /tmp/" + name},
				Tty:  tty, Streams: Streams{In: r, Out: out},
			})
			ended <- err
		}()
		is := func(what string) func() bool {
			return func() bool { _, err := os.Stat(s.Dir(rec.ID) + "/upper/tmp/" + what + "-" + name); return err == nil }
		}
		eventually(t, "start", is("up"))
		if tty {
			fmt.Fprint(w, "\x04") // on a terminal cat has no other end
			eventually(t, "end of input", is("over"))
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		eventually(t, name, func() bool {
			raw, _ := os.ReadFile(s.Dir(rec.ID) + "/upper/tmp/" + name)
			return string(raw) == "done\n"
		})
		text()
		w.Close()
		r.Close()
	}
}

func TestExecInput(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, Config{Cmd: []string{"sleep", "1000"}}, HostConfig{}))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	input := strings.Repeat("0123456789abcde\n", 40_000)
	go func() { io.WriteString(w, input); w.Close() }()
	out, text := capture(t)
	errs, errText := capture(t)
	res, err := s.Exec(t.Context(), rec, ExecOptions{
		Args: []string{"sh", "-c", "cat; echo end; echo err >&2; exit 7"}, Env: []string{"BIG=" + strings.Repeat("x", 100_000)},
		Streams: Streams{In: r, Out: out, Err: errs},
	})
	if got := text(); err != nil || res.Code != 7 || got != input+"end\n" {
		t.Errorf("%+v %v, %d bytes", res, err, len(got))
	}
	if got := errText(); got != "err\n" {
		t.Errorf("%q", got)
	}
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, tty := range []bool{true, false} {
		_, err = s.Exec(t.Context(), rec, ExecOptions{Args: []string{"nosuch"}, Tty: tty, Streams: Streams{In: in}})
		startError(t, err, 127)
	}
	_, err = s.Exec(t.Context(), rec, ExecOptions{Args: []string{"true"}, Tty: true, DetachKeys: "ctrl-1"})
	if !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("bad keys: %v", err)
	}
}

// A detached command with a terminal keeps it.
func TestExecDetachedTerminal(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, Config{Cmd: []string{"sleep", "1000"}}, HostConfig{}))
	res, err := s.Exec(t.Context(), rec, ExecOptions{Args: []string{"sh", "-c", "sleep 0.3; test -t 0 && test -t 1 && echo terminal > /tmp/mark"}, Tty: true, Detach: true})
	if err != nil || !res.Detached {
		t.Errorf("%+v %v", res, err)
	}
	eventually(t, "the command's end", func() bool {
		raw, _ := os.ReadFile(s.Dir(rec.ID) + "/upper/tmp/mark")
		return string(raw) == "terminal\n"
	})
}

// The container's end is the command's, and its caller learns of it.
func TestExecContainerEnds(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, Config{Cmd: []string{"sleep", "1000"}}, HostConfig{}))
	_, text, done := typed(t, s, rec, "touch /tmp/up; sleep 1000")
	eventually(t, "start", func() bool { _, err := os.Stat(s.Dir(rec.ID) + "/upper/tmp/up"); return err == nil })
	zero := 0
	if err := s.Stop(t.Context(), rec, StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	if res := <-done; res.Code != 137 {
		t.Errorf("%+v", res)
	}
	text()
}

func TestExecResize(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, Config{Cmd: []string{"sleep", "1000"}}, HostConfig{}))
	master, slave := newTerminal(t)
	size := func(cols, rows uint16) {
		if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows}); err != nil {
			t.Fatal(err)
		}
	}
	size(90, 30)
	done := make(chan Result, 1)
	go func() {
		res, err := s.Exec(context.Background(), rec, ExecOptions{
			Args: []string{"sh", "-c", "stty size; read x; until test \"$(stty size)\" = '31 91'; do sleep 0.05; done; stty size; exit 3"},
			Tty:  true, Streams: Streams{In: slave, Out: slave},
		})
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	shown(t, master, "30 90")
	size(91, 31)
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil { // as the kernel sends it to those who run on the terminal
		t.Fatal(err)
	}
	fmt.Fprint(master, "\r")
	shown(t, master, "31 91")
	if res := <-done; res.Code != 3 {
		t.Errorf("%+v", res)
	}
}

// newTerminal makes a terminal: the side of its user, and that of a program.
func newTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// shown reads what the terminal shows until want.
func shown(t *testing.T, master *os.File, want string) {
	t.Helper()
	var all []byte
	buf := make([]byte, 1024)
	for !strings.Contains(string(all), want) {
		n, err := master.Read(buf)
		if err != nil {
			t.Fatalf("%q: %v", all, err)
		}
		all = append(all, buf[:n]...)
	}
}

// What the process left is read, however long the copiers are kept from it and though somebody else has the other end still.
func TestDrainBusyMachine(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	io.WriteString(w, "the last")
	h, drained, done := &hub{}, make(chan struct{}), make(chan struct{})
	defer close(drained)
	outputs := []output{{frameStdout, r}}
	go func() { h.drain(outputs, drained, time.Millisecond); close(done) }()
	select {
	case <-done:
		t.Error("given up before it was read")
	case <-time.After(50 * time.Millisecond):
	}
	buf := make([]byte, 20)
	if n, err := r.Read(buf); string(buf[:n]) != "the last" {
		t.Errorf("%q %v", buf[:n], err)
	}
	<-done
	// More than the process can have left was written by somebody else.
	if r, w, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	io.WriteString(w, "more")
	outputs, done = []output{{frameStdout, r}}, make(chan struct{})
	go func() { h.drain(outputs, drained, time.Millisecond); close(done) }()
	eventually(t, "cut off", func() bool {
		h.heard.Add(pipeSize)
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
}

// What was read when the process ended reaches a slow reader whole, however long it takes.
func TestDrainSlowReader(t *testing.T) {
	ours, theirs := net.Pipe()
	h := &hub{}
	h.add(&client{frames: frames{conn: ours}, out: true, starter: true})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outputs := []output{{frameStdout, r}}
	drained := (&control{hub: h}).begin(outputs)
	io.WriteString(w, "first")
	w.Close()
	eventually(t, "sending", func() bool { return h.sending.Load() > 0 })
	done := make(chan struct{})
	go func() { h.drain(outputs, drained, 5*time.Millisecond); close(done) }()
	select {
	case <-done:
		t.Error("given up while the reader was slow")
	case <-time.After(50 * time.Millisecond):
	}
	f := &frames{conn: theirs}
	if _, p, err := f.receive(); string(p) != "first" {
		t.Errorf("%q %v", p, err)
	}
	<-done
}
