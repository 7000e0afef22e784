package container

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"strata/internal/errdef"
)

// LogOptions says what of a log to show.
type LogOptions struct {
	Follow bool // go on until the container ends
	Tail   int  // so many of the last entries; negative: all
	// Since and Until bound the entries' time when they are not zero.
	Since, Until time.Time
	Timestamps   bool
	Details      bool // show what stands with an entry: --log-opt labels and env
}

const followPause = 50 * time.Millisecond

// Logs writes what the container wrote to its standard output and error to stdout and stderr.
func (s *Store) Logs(ctx context.Context, rec Record, o LogOptions, stdout, stderr io.Writer) error {
	path := s.LogPath(rec)
	if path == "" {
		return fmt.Errorf("container %s: its log driver %q does not support reading: %w", rec.Name, rec.Host.Log.Driver, errdef.ErrUnsupported)
	}
	if rec.State.Alive() && !rec.State.Shim {
		return inForeground(rec)
	}
	r := &logReader{path: path, o: o, stdout: stdout, stderr: stderr}
	alive := func() bool { return false }
	if o.Follow {
		alive = func() bool {
			cur, err := s.get(rec.ID)
			return err == nil && cur.State.Supervised() && s.held(rec.ID)
		}
	}
	err := r.run(ctx, alive)
	switch {
	case errors.Is(err, errPastUntil):
		return nil
	case errors.Is(err, os.ErrNotExist): // it never ran, or has been removed since it was looked up
		_, err = s.there(rec.ID)
	}
	return err
}

// inForeground explains why nothing can be seen of a container that no shim stands by.
func inForeground(rec Record) error {
	return errdef.WithHint(fmt.Errorf("container %s runs in the foreground of its run --rm, which alone has its streams and keeps no log: %w", rec.Name, errdef.ErrUnsupported),
		"to see them from elsewhere too, run it in the background with -d, with a terminal (-it), or without --rm; exec works in any case")
}

var errPastUntil = errors.New("entries after the wanted time")

type logReader struct {
	path           string
	o              LogOptions
	stdout, stderr io.Writer
	partial        map[string]bool // streams whose last entry did not end its line
	line           []byte          // an entry that is not complete yet
}

type logEntry struct {
	Log    string            `json:"log"`
	Stream string            `json:"stream"`
	Attrs  map[string]string `json:"attrs"`
	Time   time.Time         `json:"time"`
}

// details are docker's form of what stands with an entry.
func (e logEntry) details() string {
	words := make([]string, 0, len(e.Attrs))
	for _, key := range slices.Sorted(maps.Keys(e.Attrs)) {
		words = append(words, url.QueryEscape(key)+"="+url.QueryEscape(e.Attrs[key]))
	}
	return strings.Join(words, ",")
}

// run reads from the wanted beginning to the end, and goes on while alive says so.
func (r *logReader) run(ctx context.Context, alive func() bool) error {
	r.partial = map[string]bool{}
	f, err := r.begin()
	if err != nil {
		return err
	}
	defer func() { f.f.Close() }()
	for {
		// Asked before reading: what was written before the end is then read after it.
		live := alive()
		if err := r.drain(ctx, f); err != nil {
			return err
		}
		next, err := r.next(f)
		if err != nil {
			return err
		}
		if next != nil {
			// The writer is done with the file that lost its name, but may have written since we looked.
			if err := r.drain(ctx, f); err != nil {
				next.f.Close()
				return err
			}
			f.f.Close()
			f, r.line = next, nil
			continue
		}
		if !live {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followPause):
		}
	}
}

// begin opens the file where the wanted entries begin, at their place: os.ErrNotExist without any.
func (r *logReader) begin() (*logFile, error) {
	files, err := r.openAll()
	if err == nil && len(files) == 0 {
		err = os.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	pick := len(files) - 1
	if r.o.Tail >= 0 {
		left := r.o.Tail
		for pick = 0; ; pick++ {
			if left, err = files[pick].last(left); err != nil {
				closeLogs(files)
				return nil, err
			}
			if left == 0 || pick == len(files)-1 {
				break
			}
		}
	}
	f := files[pick]
	closeLogs(slices.Concat(files[:pick], files[pick+1:]))
	return f, nil
}

// openAll opens the log's files, newest first. Names change while we go from one to the next when the log is rotated: then it
// looks again.
func (r *logReader) openAll() ([]*logFile, error) {
	var before []*logFile
	for range 100 {
		files, err := r.openOnce()
		same := slices.EqualFunc(before, files, (*logFile).is)
		closeLogs(before)
		if err != nil || same {
			return files, err
		}
		before = files
	}
	return before, nil // it is rotated more quickly than we read: what was there must do
}

func (r *logReader) openOnce() ([]*logFile, error) {
	numbers, err := logNumbers(r.path)
	if err != nil {
		return nil, err
	}
	var files []*logFile
	for _, i := range numbers {
		f, err := openLogFile(r.path, i)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has another name by now, which the next look finds
		}
		if err != nil {
			closeLogs(files)
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func closeLogs(files []*logFile) {
	for _, f := range files {
		f.f.Close()
	}
}

// tailOffset finds where the last n entries of f begin; left is how many of n the file does not have.
func tailOffset(f *os.File, n int) (offset int64, left int, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	if n == 0 {
		return info.Size(), 0, nil
	}
	buf := make([]byte, 64<<10)
	newlines := 0 // seen from the end; the last byte is one
	for end := info.Size(); end > 0; {
		start := max(0, end-int64(len(buf)))
		chunk := buf[:end-start]
		if _, err := f.ReadAt(chunk, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for i := bytes.LastIndexByte(chunk, '\n'); i >= 0; i = bytes.LastIndexByte(chunk[:i], '\n') {
			if newlines++; newlines > n {
				return start + int64(i) + 1, 0, nil
			}
		}
		end = start
	}
	return 0, n - newlines, nil
}

// next opens the file that follows f, nil when f is the newest. Files change names by rotation, so f is looked for by identity.
func (r *logReader) next(f *logFile) (*logFile, error) {
	if info, err := os.Stat(r.path); err == nil && os.SameFile(info, f.info) {
		return nil, nil // as mostly: who follows a log asks this all the time
	}
	files, err := r.openAll()
	if err != nil {
		return nil, err
	}
	defer func() { closeLogs(files) }()
	at := slices.IndexFunc(files, func(o *logFile) bool { return o.is(f) })
	if at < 0 {
		at = len(files) // rotated away while we read: go on with the oldest there is
	}
	if at == 0 {
		return nil, nil
	}
	next := files[at-1]
	files = append(files[:at-1], files[at:]...)
	return next, nil
}

// drain shows the complete entries from f's place to its end.
func (r *logReader) drain(ctx context.Context, f *logFile) error {
	for ctx.Err() == nil {
		part, err := f.in.ReadSlice('\n')
		if len(r.line)+len(part) > 1<<20 {
			r.line = nil // no line of ours is so long
			continue
		}
		if err == nil && len(r.line) == 0 {
			err = r.show(part)
		} else if r.line = append(r.line, part...); err == nil {
			err = r.show(r.line)
			r.line = r.line[:0]
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
	return ctx.Err()
}

func (r *logReader) show(line []byte) error {
	var e logEntry
	if json.Unmarshal(line, &e) != nil {
		return nil // torn by a crash: the next line is whole again
	}
	if e.Time.Before(r.o.Since) {
		return nil
	}
	if !r.o.Until.IsZero() && e.Time.After(r.o.Until) {
		return errPastUntil
	}
	w := r.stdout
	if e.Stream == "stderr" {
		w = r.stderr
	}
	if r.o.Details && !r.partial[e.Stream] {
		e.Log = e.details() + " " + e.Log
	}
	if r.o.Timestamps && !r.partial[e.Stream] {
		e.Log = e.Time.Format("2006-01-02T15:04:05.000000000Z07:00") + " " + e.Log
	}
	r.partial[e.Stream] = len(e.Log) > 0 && e.Log[len(e.Log)-1] != '\n'
	if w == nil {
		return nil
	}
	_, err := io.WriteString(w, e.Log)
	return err
}
