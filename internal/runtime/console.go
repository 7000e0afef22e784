package runtime

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// receiver is a socket on which the runtime hands over the master of a container's terminal.
type receiver struct {
	fd   int
	file string   // the socket's place
	path string   // a name for it that is short enough for a socket address
	dir  *os.File // behind path, when that is not file
}

// maxSocket is what a unix socket address holds, less its ending NUL.
const maxSocket = 107

// receive makes the socket for the terminal of a process of container id in dir. When its path is too long the runtime gets it by way of /proc.
func receive(dir, id string) (_ *receiver, err error) {
	name := id + ".tty-" + strings.ToLower(rand.Text()[:6])
	c := &receiver{fd: -1, file: filepath.Join(dir, name)}
	defer func() {
		if err != nil {
			c.close()
			err = fmt.Errorf("console socket: %w", err)
		}
	}()
	c.path = c.file
	if len(c.path) > maxSocket {
		if c.dir, err = os.Open(dir); err != nil {
			return nil, err
		}
		c.path = fmt.Sprintf("/proc/%d/fd/%d/%s", os.Getpid(), c.dir.Fd(), name)
	}
	if c.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return nil, err
	}
	if err = unix.Bind(c.fd, &unix.SockaddrUnix{Name: c.path}); err != nil {
		return nil, err
	}
	return c, unix.Listen(c.fd, 1)
}

// accept takes what the runtime sent before it ended: nothing here waits.
func (c *receiver) accept() (*os.File, error) {
	conn, _, err := unix.Accept4(c.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("console socket: %w", err)
	}
	defer unix.Close(conn)
	data, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*4))
	_, n, _, _, err := unix.Recvmsg(conn, data, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("console socket: %w", err)
	}
	fds, err := received(oob[:n])
	if err != nil {
		return nil, fmt.Errorf("console socket: %w", err)
	}
	for _, fd := range fds[1:] {
		unix.Close(fd)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		return nil, fmt.Errorf("console: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "console"), nil
}

// received gives the descriptors in a control message, at least one.
func received(oob []byte) ([]int, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range msgs {
		if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil && len(fds) > 0 {
			return fds, nil
		}
	}
	return nil, fmt.Errorf("the runtime sent no terminal: %w", errdef.ErrUnavailable)
}

func (c *receiver) close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		os.Remove(c.file)
	}
	if c.dir != nil {
		c.dir.Close()
	}
}
