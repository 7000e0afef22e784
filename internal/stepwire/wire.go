package stepwire

import (
	"encoding/json"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// FD is the helper's descriptor of its socket.
const FD = 3

// maxMessage bounds a packet, maxFiles the files with it.
const (
	maxMessage = 64 << 10
	maxFiles   = 4
)

// Request asks to run a container, or to kill one that was asked for before. With a request to run come the mount
// namespace to start it in, and then its standard input, output and error.
type Request struct {
	Seq  uint64 `json:"seq"` // of the container, chosen by who asks, never used twice
	Kill bool   `json:"kill,omitempty"`
	// Filter: this is about no container. The one file that comes with it is a compiled system call filter, for those that
	// are asked for from now on.
	Filter bool `json:"filter,omitempty"`
	// ID is the container's, Bundle its directory, State where the runtime keeps its containers.
	ID     string `json:"id,omitempty"`
	Bundle string `json:"bundle,omitempty"`
	State  string `json:"state,omitempty"`
}

// Reply tells of a container.
type Reply struct {
	Seq uint64 `json:"seq"`
	// Pid is set in the first reply about a container that has started.
	Pid int `json:"pid,omitempty"`
	// Code is, in the last, its exit status or 128 and the number of the signal that ended it.
	Code int `json:"code,omitempty"`
	// Error says why it did not start.
	Error string `json:"error,omitempty"`
}

// Send sends a message. The files stay the sender's.
func Send(c *net.UnixConn, message any, files ...*os.File) error {
	raw, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(raw) > maxMessage {
		return fmt.Errorf("message of %d bytes: %w", len(raw), errdef.ErrLimit)
	}
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix(raw, rights, nil)
	return err
}

// Receive waits for a message and gives the files that came with it, for the caller to close. io.EOF: the other end has
// gone.
func Receive(c *net.UnixConn, message any) ([]*os.File, error) {
	buf := make([]byte, maxMessage)
	rights := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, rn, flags, _, err := c.ReadMsgUnix(buf, rights)
	if err != nil {
		return nil, err
	}
	files, err := received(rights[:rn])
	switch {
	case err != nil:
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = fmt.Errorf("message cut off: %w", errdef.ErrLimit)
	default:
		err = json.Unmarshal(buf[:n], message)
	}
	if err != nil {
		CloseAll(files)
		return nil, err
	}
	return files, nil
}

func received(rights []byte) ([]*os.File, error) {
	controls, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, control := range controls {
		fds, err := unix.ParseUnixRights(&control)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// CloseAll closes files.
func CloseAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Conn makes a connection of one end of a socket pair, and closes f.
func Conn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("%s is no socket of strata: %w", f.Name(), errdef.ErrInvalid)
	}
	return u, nil
}
