package container

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// maxLine is docker's: a longer line is kept in parts, of which the last alone ends in a newline.
	maxLine         = 16 << 10
	defaultLogSize  = 10 << 20
	defaultLogFiles = 3
)

// LogPath is the container's newest log file, "" when it keeps none. Older ones have ".1", ".2" … behind.
func (s *Store) LogPath(rec Record) string {
	if rec.Host.Log.Driver == "none" {
		return ""
	}
	return filepath.Join(s.Dir(rec.ID), rec.ID+"-json.log")
}

// logWriter keeps a container's output in docker's json-file form: an object {"log","stream","time"} a line. It is safe
// for use by the copiers of both streams. A disk that is full loses lines, it does not stop the container.
type logWriter struct {
	path    string
	maxSize int64 // negative: no limit
	files   int

	attrs []byte // what stands with each entry: `,"attrs":{…}`, or nothing

	mu   sync.Mutex
	f    *os.File
	size int64
	out  []byte // lines encoded for one write
}

func openLog(path string, c LogConfig, attrs map[string]string) (*logWriter, error) {
	w := &logWriter{path: path, maxSize: c.MaxSize, files: c.MaxFiles}
	if len(attrs) > 0 {
		raw, err := json.Marshal(attrs)
		if err != nil {
			return nil, err
		}
		w.attrs = append([]byte(`,"attrs":`), raw...)
	}
	if w.maxSize == 0 {
		w.maxSize = defaultLogSize
	}
	if w.files <= 0 {
		w.files = defaultLogFiles
	}
	return w, w.open()
}

func (w *logWriter) open() error {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("container log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("container log: %w", err)
	}
	w.f, w.size = f, info.Size()
	return nil
}

func (w *logWriter) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	return w.f.Close()
}

// stream splits one of the container's streams into lines for the log.
type stream struct {
	w    *logWriter
	name string
	rest []byte // the beginning of a line whose end has not come
}

// write logs the lines that p completes. Nothing of p is kept but the beginning of a line.
func (s *stream) write(p []byte) {
	now := time.Now()
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for len(p) > 0 {
		room := maxLine - len(s.rest)
		end := bytes.IndexByte(p[:min(len(p), room)], '\n') + 1
		if end == 0 && len(p) < room {
			s.rest = append(s.rest, p...)
			break
		}
		if end == 0 {
			end = room
		}
		s.rest = append(s.rest, p[:end]...)
		p = p[end:]
		cut := len(s.rest) - unfinished(s.rest)
		s.w.line(s.rest[:cut], s.name, now)
		s.rest = append(s.rest[:0], s.rest[cut:]...)
	}
	s.w.flush()
}

// unfinished is the length of a beginning of a UTF-8 character at the end of p, whose other bytes have yet to come.
func unfinished(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if last := p[len(p)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return 0
			}
			return n
		}
	}
	return 0
}

// end logs a last line without a newline.
func (s *stream) end() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if len(s.rest) > 0 {
		s.w.line(s.rest, s.name, time.Now())
		s.rest = nil
		s.w.flush()
	}
}

// line encodes one line, or a part of a long one.
func (w *logWriter) line(p []byte, stream string, t time.Time) {
	w.out = append(w.out, `{"log":"`...)
	w.out = appendEscaped(w.out, p)
	w.out = append(w.out, `","stream":"`...)
	w.out = append(w.out, stream...)
	w.out = append(w.out, '"')
	w.out = append(w.out, w.attrs...)
	w.out = append(w.out, `,"time":"`...)
	w.out = t.UTC().AppendFormat(w.out, time.RFC3339Nano)
	w.out = append(w.out, "\"}\n"...)
	if len(w.out) >= 64<<10 {
		w.flush()
	}
}

func (w *logWriter) flush() {
	if len(w.out) == 0 {
		return
	}
	if w.maxSize > 0 && w.size > 0 && w.size+int64(len(w.out)) > w.maxSize {
		w.rotate()
	}
	if w.f != nil {
		n, err := w.f.Write(w.out)
		if err != nil && n > 0 {
			// Half a line would make the next one unreadable.
			if w.f.Truncate(w.size) == nil {
				n = 0
			}
		}
		w.size += int64(n)
	}
	w.out = w.out[:0]
	if cap(w.out) > 256<<10 {
		w.out = nil
	}
}

// rotate makes the newest file the first of the old ones. When a name cannot be changed the log goes on in the same file.
func (w *logWriter) rotate() {
	for i := w.files - 2; i >= 0; i-- {
		_ = os.Rename(rotated(w.path, i), rotated(w.path, i+1))
	}
	if w.files == 1 {
		os.Remove(w.path)
	}
	old := w.f
	if err := w.open(); err != nil {
		return
	}
	old.Close()
}

// rotated is the name of the i-th newest log file.
func rotated(path string, i int) string {
	if i == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, i)
}

// appendEscaped appends p as the inside of a JSON string. Bytes that are not UTF-8 become the replacement character.
func appendEscaped(dst, p []byte) []byte {
	const hex = "0123456789abcdef"
	start := 0
	for i := 0; i < len(p); {
		c := p[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size, repl := 1, ""
		switch {
		case c == '\n':
			repl = `\n`
		case c == '\r':
			repl = `\r`
		case c == '\t':
			repl = `\t`
		case c == '"':
			repl = `\"`
		case c == '\\':
			repl = `\\`
		case c < ' ':
			repl = `\u00` + string([]byte{hex[c>>4], hex[c&15]})
		default:
			var r rune
			if r, size = utf8.DecodeRune(p[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			repl = `\ufffd`
		}
		dst = append(dst, p[start:i]...)
		dst = append(dst, repl...)
		i += size
		start = i
	}
	return append(dst, p[start:]...)
}
