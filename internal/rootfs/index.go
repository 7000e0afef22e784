package rootfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
)

// stamp tells whether a file is still the one it was: nothing changes a file, nor gives its name to another, without
// changing one of these.
type stamp struct {
	file // which one
	sec  int64
	nsec int64 // of its last change
}

// file tells a file from others that have been under its name. Inodes are used again, so the time of birth counts, too,
// where the file system knows it.
type file struct {
	ino  uint64
	born int64
}

// stampOf gives the stamp of name in the directory dirfd, itself if it is a link.
func stampOf(dirfd int, name string) (stamp, error) {
	var st unix.Statx_t
	err := unix.Statx(dirfd, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_CTIME|unix.STATX_BTIME, &st)
	if err != nil {
		return stamp{}, err
	}
	s := stamp{file: file{ino: st.Ino}, sec: st.Ctime.Sec, nsec: int64(st.Ctime.Nsec)}
	if st.Mask&unix.STATX_BTIME != 0 {
		s.born = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return s, nil
}

// tick bounds the wait for the clock of file times.
const tick = 100 * time.Millisecond

// writeIndex notes the stamps of all below tree in file. It waits until the clock by which files are stamped has gone on, so
// that what changes later has another stamp.
func writeIndex(tree, file string) error {
	var b strings.Builder
	var last stamp
	err := filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := stampOf(unix.AT_FDCWD, path)
		if err != nil {
			return pathError("stat", path, err)
		}
		rel, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		if st.sec > last.sec || st.sec == last.sec && st.nsec > last.nsec {
			last = st
		}
		fmt.Fprintf(&b, "%d %d %d %d %s\n", st.ino, st.born, st.sec, st.nsec, strconv.Quote(rel))
		return nil
	})
	if err != nil {
		return err
	}
	var now unix.Timespec
	for end := time.Now().Add(tick); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now) == nil && (now.Sec > last.sec || now.Sec == last.sec && now.Nsec > last.nsec) {
			break
		}
	}
	return atomicfile.Write(file, []byte(b.String()), 0o600)
}

// readIndex reads what [writeIndex] wrote, by path from the tree's root, which is ".".
func readIndex(file string) (map[string]stamp, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	index := map[string]stamp{}
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			return index, nil
		}
		if err != nil {
			return nil, err
		}
		var s stamp
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 5)
		if len(fields) != 5 {
			return nil, fmt.Errorf("%s: %w", file, errdef.ErrCorrupt)
		}
		_, err = fmt.Sscan(strings.Join(fields[:4], " "), &s.ino, &s.born, &s.sec, &s.nsec)
		name, nerr := strconv.Unquote(fields[4])
		if err != nil || nerr != nil {
			return nil, fmt.Errorf("%s: %w", file, errdef.ErrCorrupt)
		}
		index[name] = s
	}
}
