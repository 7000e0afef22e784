//go:build linux

package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// terminal is a program on a terminal of its own, and someone who reads and types there.
type terminal struct {
	master *os.File
	cmd    *exec.Cmd

	mu   sync.Mutex
	seen strings.Builder // all that was shown
	read int             // how much of it expect has been past
	shut chan struct{}   // closed when the terminal shows no more
}

// startTerminal starts cmd on a new terminal of 120 columns.
func startTerminal(cmd *exec.Cmd) (*terminal, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	slave, err := openSlave(master)
	if err != nil {
		master.Close()
		return nil, err
	}
	defer slave.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		master.Close()
		return nil, err
	}
	t := &terminal{master: master, cmd: cmd, shut: make(chan struct{})}
	go t.watch()
	return t, nil
}

func openSlave(master *os.File) (*os.File, error) {
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120}); err != nil {
		return nil, err
	}
	return os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
}

func (t *terminal) watch() {
	defer close(t.shut)
	buf := make([]byte, 4096)
	for {
		n, err := t.master.Read(buf)
		t.mu.Lock()
		t.seen.Write(buf[:n])
		t.mu.Unlock()
		if err != nil { // EIO: nobody has it open any more
			return
		}
	}
}

// control is what a terminal obeys and does not show.
var control = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

// screen is what can be read in the end: a line that was written over stands there once.
func (t *terminal) screen() string {
	lines := strings.Split(strings.ReplaceAll(t.text(), "\r\n", "\n"), "\n")
	for i, line := range lines {
		line = strings.TrimRight(line, "\r")
		lines[i] = line[strings.LastIndex(line, "\r")+1:]
	}
	return strings.Join(lines, "\n")
}

// text is all that was shown.
func (t *terminal) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return control.ReplaceAllString(t.seen.String(), "")
}

// expect waits until one of the texts was shown after what was expected before.
func (t *terminal) expect(limit time.Duration, texts ...string) error {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		closed := false
		select {
		case <-t.shut:
			closed = true
		default:
		}
		rest := t.text()[t.read:]
		for _, text := range texts {
			if i := strings.Index(rest, text); i >= 0 {
				t.read += i + len(text)
				return nil
			}
		}
		if closed || time.Now().After(end) {
			return fmt.Errorf("the terminal does not show %q, but %q", texts, rest)
		}
	}
}

func (t *terminal) enter(line string) error {
	_, err := t.master.WriteString(line + "\r")
	return err
}

// end waits for the program.
func (t *terminal) end(limit time.Duration) error {
	late := time.AfterFunc(limit, func() { t.cmd.Process.Kill() })
	defer late.Stop()
	err := t.cmd.Wait()
	select {
	case <-t.shut:
	case <-time.After(10 * time.Second): // something it left behind has the terminal open
	}
	return errors.Join(err, t.master.Close())
}

// patience is how long a line of a dialogue may take: a package is fetched and set up in it.
const patience = 3 * time.Minute

// terminalCommand FILE COMMAND…: runs the command on a terminal and speaks with it. A line of FILE that begins with "< "
// is waited for, one that begins with "> " is typed. What the terminal showed is left in the file "screen".
func terminalCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: terminal FILE COMMAND…")
	}
	path, err := lookPath(ts, args[1])
	ts.Check(err)
	cmd := exec.Command(path, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"TERM=xterm"}
	for _, name := range []string{"PATH", "HOME", "STRATA_ROOT", "STRATA_RUN", "XDG_CONFIG_HOME"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	t, err := startTerminal(cmd)
	ts.Check(err)
	err = t.converse(ts.ReadFile(args[0]))
	if err != nil {
		cmd.Process.Kill()
	}
	ended := t.end(patience)
	ts.Check(os.WriteFile(ts.MkAbs("screen"), []byte(t.screen()), 0o644))
	if err != nil {
		ts.Fatalf("%v", err)
	}
	if (ended != nil) != neg {
		ts.Fatalf("%v: %v\n%s", args[1:], ended, t.text())
	}
}

// converse goes through a dialogue.
func (t *terminal) converse(dialogue string) error {
	for line := range strings.Lines(dialogue) {
		line = strings.TrimSuffix(line, "\n")
		var err error
		if wait, ok := strings.CutPrefix(line, "< "); ok {
			err = t.expect(patience, wait)
		} else if typed, ok := strings.CutPrefix(line, "> "); ok {
			err = t.enter(typed)
		} else if line != "" {
			err = fmt.Errorf("a line of a dialogue begins with < or >: %q", line)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
