//go:build cgo

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/stepwire"
)

// begin starts a server and gives the other end of its socket, and how it ended.
func begin(t *testing.T) (*server, *net.UnixConn, chan error) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range pair {
		if ends[i], err = stepwire.Conn(os.NewFile(uintptr(fd), "socket")); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { ends[0].Close(); ends[1].Close() })
	s := &server{conn: ends[0], steps: map[uint64]*step{}}
	done := make(chan error, 1)
	go func() {
		err := s.accept()
		s.running.Wait()
		done <- err
	}()
	return s, ends[1], done
}

func null(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func send(t *testing.T, conn *net.UnixConn, req stepwire.Request, files ...*os.File) {
	t.Helper()
	if err := stepwire.Send(conn, req, files...); err != nil {
		t.Fatal(err)
	}
}

// A container that cannot be made is answered, and the server goes on. A kill of one that has ended is no error.
func TestServerAnswers(t *testing.T) {
	s, conn, done := begin(t)
	f := null(t)
	for seq := uint64(1); seq <= 2; seq++ {
		send(t, conn, stepwire.Request{Seq: seq, ID: "x", Bundle: t.TempDir() + "/none"}, f, f, f, f)
		var reply stepwire.Reply
		if _, err := stepwire.Receive(conn, &reply); err != nil || reply.Seq != seq || !strings.Contains(reply.Error, "no such file") {
			t.Errorf("%+v, %v", reply, err)
		}
		send(t, conn, stepwire.Request{Seq: seq, Kill: true})
	}
	conn.Close()
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Errorf("%v, want %v", err, io.EOF)
	}
	if len(s.steps) != 0 {
		t.Errorf("still known: %v", s.steps)
	}
}

func TestServerRefuses(t *testing.T) {
	for _, files := range []int{0, 1, 3} {
		_, conn, done := begin(t)
		f := null(t)
		send(t, conn, stepwire.Request{Seq: 1, ID: "x"}, []*os.File{f, f, f}[:files]...)
		if err := <-done; !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%d files: %v", files, err)
		}
	}
}

// The first filter is the one: the containers that are being started read its name.
func TestServerFilter(t *testing.T) {
	name := os.Args[0]
	defer func() { os.Args[0] = name }()
	s, conn, done := begin(t)
	for range 2 {
		send(t, conn, stepwire.Request{Filter: true}, null(t))
	}
	conn.Close()
	<-done
	if s.filter == nil || os.Args[0] != fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.filter.Fd()) {
		t.Errorf("the program's name is %s", os.Args[0])
	}
	if to, err := os.Readlink(os.Args[0]); err != nil || to != os.DevNull {
		t.Errorf("%s, %v", to, err)
	}
}
