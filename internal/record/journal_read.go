package record

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The pauses after which a reader looks again: with a watch on the directory, in case the directory itself was replaced,
// and without one.
const (
	watchedPause   = 2 * time.Second
	unwatchedPause = 100 * time.Millisecond
)

// JournalReader reads a journal from one place on, across its files. Close it.
type JournalReader struct {
	j     *Journal
	at    map[uint64]place
	watch *os.File // an inotify descriptor, nil where there is none
}

// place is how far a file was read.
type place struct {
	inode  uint64
	offset int64
}

// Reader makes a reader that begins with the oldest line there is, or with those that come after now.
func (j *Journal) Reader(fromNow bool) (*JournalReader, error) {
	r := &JournalReader{j: j, at: map[uint64]place{}}
	if !fromNow {
		return r, nil
	}
	numbers, err := j.numbers()
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		var st unix.Stat_t
		if unix.Stat(j.file(n), &st) == nil {
			r.at[n] = place{st.Ino, st.Size}
		}
	}
	return r, nil
}

// Close gives up what the reader holds.
func (r *JournalReader) Close() error {
	if r.watch == nil {
		return nil
	}
	return r.watch.Close()
}

// Each gives fn the lines that have come since the last call, without their newlines, until fn fails. What ends without a
// newline waits for the next call; lines that are longer than a journal's can be are left out.
func (r *JournalReader) Each(fn func(line []byte) error) error {
	numbers, err := r.j.numbers()
	if err != nil {
		return err
	}
	seen := make(map[uint64]place, len(numbers))
	for _, n := range numbers {
		p, err := r.read(n, fn)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		seen[n] = p
	}
	r.at = seen
	return nil
}

// read gives the new lines of one file, and how far it is read then.
func (r *JournalReader) read(n uint64, fn func(line []byte) error) (place, error) {
	var st unix.Stat_t
	name := r.j.file(n)
	if err := unix.Stat(name, &st); err != nil {
		return place{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	p := r.at[n]
	if p.inode != st.Ino || p.offset > st.Size {
		p = place{inode: st.Ino} // another file: the store was emptied meanwhile
	}
	if p.offset == st.Size {
		return p, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return p, err
	}
	defer f.Close()
	if _, err := f.Seek(p.offset, io.SeekStart); err != nil {
		return p, err
	}
	read, err := eachLine(f, fn)
	p.offset += read
	return p, err
}

// eachLine gives the complete lines of in to fn and counts their bytes.
func eachLine(in io.Reader, fn func(line []byte) error) (read int64, err error) {
	b := bufio.NewReaderSize(in, MaxLine)
	var skipped int64 // bytes of a line that is too long
	for {
		line, err := b.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			skipped += int64(len(line))
			continue
		case errors.Is(err, io.EOF):
			return read, nil
		case err != nil:
			return read, err
		}
		long := skipped > 0
		read += skipped + int64(len(line))
		skipped = 0
		line = bytes.TrimSuffix(line, []byte("\n"))
		if long || len(line) == 0 {
			continue
		}
		if err := fn(line); err != nil {
			return read, err
		}
	}
}

// watchDir makes Wait return as soon as something is written, where the machine can tell.
func (r *JournalReader) watchDir() {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return // as many watches as the user may have: looking now and then does it too
	}
	if _, err := unix.InotifyAddWatch(fd, r.j.dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_ONLYDIR); err != nil {
		unix.Close(fd)
		return
	}
	r.watch = os.NewFile(uintptr(fd), "inotify")
}

// Wait blocks until there may be new lines, at most until end (the zero time is never), or until ctx ends, whose error it
// then returns.
func (r *JournalReader) Wait(ctx context.Context, end time.Time) error {
	if r.watch == nil {
		if r.watchDir(); r.watch != nil {
			return ctx.Err() // what was written before the watch was set is not told
		}
	}
	pause := unwatchedPause
	if r.watch != nil {
		pause = watchedPause
	}
	until := time.Now().Add(pause)
	if !end.IsZero() && end.Before(until) {
		until = end
	}
	if r.watch == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(until)):
		}
		return ctx.Err()
	}
	return r.await(ctx, until)
}

// await reads what the watch tells, which is only that there is something.
func (r *JournalReader) await(ctx context.Context, until time.Time) error {
	if err := r.watch.SetReadDeadline(until); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = r.watch.SetReadDeadline(time.Unix(1, 0)) }) // fails only when it is closed
	defer stop()
	var told [4096]byte
	_, err := r.watch.Read(told[:])
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		// Nothing, or a directory that was put in the place of the watched one.
		err = r.watch.Close()
		r.watch = nil
	}
	return err
}
