package runtime

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watcher waits for a name to appear in a directory.
type watcher struct {
	f    *os.File
	name []byte
}

// watch starts to look at dir; what appears from now on is seen.
func watch(dir, name string) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE); err != nil {
		f.Close()
		return nil, fmt.Errorf("inotify: %s: %w", dir, err)
	}
	return &watcher{f, []byte(name)}, nil
}

// wait returns true when the name has appeared, false after close.
func (w *watcher) wait() bool {
	defer w.f.Close()
	buf := make([]byte, 4096)
	for {
		n, err := w.f.Read(buf)
		if err != nil {
			return false
		}
		for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			size := int(binary.NativeEndian.Uint32(rest[12:16])) // len, the last field
			end := min(unix.SizeofInotifyEvent+size, len(rest))
			if bytes.Equal(bytes.TrimRight(rest[unix.SizeofInotifyEvent:end], "\x00"), w.name) {
				return true
			}
			rest = rest[end:]
		}
	}
}

// close ends wait.
func (w *watcher) close() { w.f.SetReadDeadline(time.Unix(1, 0)) }
